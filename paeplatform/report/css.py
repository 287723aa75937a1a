"""The report page's inline style sheet: readable on a light and on a dark screen, and when printed."""

CSS = """
:root { color-scheme: light dark; --bg: #fbfbfa; --fg: #1d2126; --soft: #5d666f; --line: #d9dde1;
  --card: #ffffff;
  --met: #00694d; --missed: #a83f00; --unknown: #5d666f; --accent: #0072b2; --truth: #b34700; }
@media (prefers-color-scheme: dark) { :root { --bg: #15181b; --fg: #e6e8ea; --soft: #a2abb3; --line: #363c42;
  --card: #1e2327; --met: #4cc9a4; --missed: #ff9a5c; --unknown: #a2abb3; --accent: #6cb8e6;
  --truth: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 1.5rem; background: var(--bg); color: var(--fg);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1.02rem; margin: 1.3rem 0 .4rem; }
p { margin: .4rem 0; max-width: 75ch; } .soft { color: var(--soft); } p.soft { font-size: .9rem;
  max-width: 85ch; } a { color: var(--accent); }
nav a { margin-right: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(155px, 1fr)); gap: .7rem;
  margin: 1rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .84rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: middle;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; } th.text, td.text { text-align: left; }
td.wrap { white-space: normal; min-width: 9rem; }
.err { color: var(--soft); font-size: .78rem; }
.light { font-weight: 600; white-space: nowrap; }
.light::before { content: ""; display: inline-block; width: .72em; height: .72em; border-radius: 50%;
  margin-right: .4em; background: currentColor; }
.met { color: var(--met); } .missed { color: var(--missed); } .unknown { color: var(--unknown); }
.missed::before { border-radius: 2px; } .unknown::before { background: none; border: 2px solid currentColor; }
figure { margin: 1.2rem 0 1.8rem; } figure img { display: block; width: 100%; max-width: 860px; height: auto;
  background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: 6px; }
figcaption { margin-top: .4rem; max-width: 860px; font-size: .9rem; color: var(--soft); }
figcaption b { color: var(--fg); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
svg.pz { display: block; } svg.pz path { fill: var(--accent); fill-opacity: .35; stroke: var(--accent); }
svg.pz .truth { stroke: var(--truth); stroke-width: 2; } svg.pz .hat { stroke: var(--fg);
  stroke-dasharray: 3 2; }
.browser { display: grid; grid-template-columns: minmax(0, 1.6fr) minmax(0, 1fr); gap: .8rem; }
.browser svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
#sources-browser select, #sources-browser button { font: inherit; padding: .15rem .4rem; }
@media (max-width: 760px) { .browser { grid-template-columns: 1fr; } }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""
