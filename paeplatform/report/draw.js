// Drawing shared by the report's browser and the page of answers: SVG made of numbers. Nothing is fetched.
var draw = (function () {
  var LOW_UM = 0.7, HIGH_UM = 5.05, LEFT = 52, RIGHT = 630;
  function add(parent, tag, attributes, text) {
    var node = document.createElementNS(parent.namespaceURI, tag);
    for (var key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }
  function clear(node) { while (node.firstChild) node.removeChild(node.firstChild); }
  function fixed(value, digits) { return value === null || value === undefined ? '–' : value.toFixed(digits); }
  function known(value) { return value !== null && value !== undefined; }
  function scale(low, high, from, to) {
    return function (v) { return from + (v - low) / ((high - low) || 1) * (to - from); };
  }
  // Round numbers from low to high, some `n` of them, and the decimals that tell them apart.
  function ticks(low, high, n) {
    var raw = (high - low) / n || 1, power = Math.pow(10, Math.floor(Math.log10(raw)));
    var step = power * [1, 2, 5, 10].filter(function (size) { return size * power >= 0.999 * raw; })[0];
    var list = [], first = Math.ceil(low / step - 1e-9);
    for (var k = first; k * step <= high + 1e-9 * step && list.length < 50; k++) list.push(k * step);
    return {values: list, digits: Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))};
  }
  function axis(svg, x, low, high, y, label, width) {
    add(svg, 'line', {x1: x(low), x2: x(high), y1: y, y2: y, stroke: 'var(--soft)'});
    var at = ticks(low, high, width / 60);
    at.values.forEach(function (v) {
      add(svg, 'line', {x1: x(v), x2: x(v), y1: y, y2: y + 3, stroke: 'var(--soft)'});
      add(svg, 'text', {x: Math.min(x(v), width - 12), y: y + 15, 'font-size': 11, fill: 'var(--soft)', 'text-anchor': 'middle'},
        v.toFixed(at.digits));
    });
    add(svg, 'text', {x: width / 2, y: y + 31, 'font-size': 12, fill: 'var(--fg)', 'text-anchor': 'middle'}, label);
  }
  // Places of a source's measurements in order of wavelength; those of one detector stay together where it is known.
  function ordered(s, wave) {
    var all = wave.map(function (_, i) { return i; });
    return all.sort(function (a, b) { return (s.d ? s.d[a] - s.d[b] : 0) || wave[a] - wave[b]; });
  }
  function pieces(s, places) {
    var parts = [];
    places.forEach(function (i, k) {
      if (!k || (s.d && s.d[i] !== s.d[places[k - 1]])) parts.push([]);
      parts[parts.length - 1].push(i);
    });
    return parts;
  }
  function line(places, wave, values, x, y) {
    return 'M' + places.map(function (i) { return point(x(wave[i]), y(values[i])); }).join('L');
  }
  function area(places, wave, low, high, x, y) {
    var down = places.slice().reverse();
    return line(places, wave, high, x, y) + 'L' + line(down, wave, low, x, y).slice(1) + 'Z';
  }
  function point(x, y) { return x.toFixed(1) + ' ' + y.toFixed(1); }
  // Fluxes f with errors e at wavelengths s.w or else those given; model m with intervals l1..h1 (68 %), l2..h2 (95 %).
  function sed(svg, s, bandWave) {
    clear(svg);
    var base = svg.viewBox.baseVal.height - 38;
    var wave = s.w || bandWave, all = ordered(s, wave);
    var used = all.filter(function (i) { return known(s.f[i]) && known(s.e[i]); });
    var predicted = s.m ? all.filter(function (i) { return known(s.m[i]); }) : [];
    var values = used.map(function (i) { return s.f[i]; }).concat(predicted.map(function (i) { return s.m[i]; }));
    if (!values.length) { add(svg, 'text', {x: 20, y: 40, fill: 'var(--soft)'}, 'no usable measurement'); return; }
    values.sort(function (a, b) { return a - b; });
    var errors = used.map(function (i) { return s.e[i]; }).sort(function (a, b) { return a - b; });
    var margin = (errors[errors.length >> 1] || 0) + 0.1 * (values[values.length - 1] - values[0]);
    var low = values[Math.floor(values.length * 0.01)] - margin;
    var high = values[Math.ceil(values.length * 0.99) - 1] + margin;
    var x = scale(LOW_UM, HIGH_UM, LEFT, RIGHT), y = scale(low, high, base - 6, 10);
    var clip = function (v) { return Math.max(6, Math.min(base - 2, y(v))); };
    pieces(s, predicted).forEach(function (part) {
      [[s.l2, s.h2, 0.18], [s.l1, s.h1, 0.32]].forEach(function (band) {
        add(svg, 'path', {d: area(part, wave, band[0], band[1], x, clip), fill: 'var(--accent)', 'fill-opacity': band[2]});
      });
      add(svg, 'path', {d: line(part, wave, s.m, x, clip), fill: 'none', stroke: 'var(--accent)', 'stroke-width': 1.6});
    });
    used.forEach(function (i) {
      add(svg, 'line', {x1: x(wave[i]), x2: x(wave[i]), y1: clip(s.f[i] - s.e[i]), y2: clip(s.f[i] + s.e[i]),
        stroke: 'var(--truth)', 'stroke-opacity': 0.5});
      add(svg, 'circle', {'class': 'flux', cx: x(wave[i]), cy: clip(s.f[i]), r: 2.2, fill: 'var(--truth)'});
    });
    axis(svg, x, LOW_UM, HIGH_UM, base, 'observed wavelength [µm]', 640);
    var at = ticks(low, high, 6);
    at.values.forEach(function (v) {
      if (y(v) < 20) return;  // the unit stands there
      add(svg, 'line', {x1: LEFT, x2: RIGHT, y1: y(v), y2: y(v), stroke: 'var(--line)', 'stroke-opacity': v ? 0.5 : 1});
      add(svg, 'text', {x: 46, y: y(v) + 4, 'font-size': 11, fill: 'var(--soft)', 'text-anchor': 'end'},
        Math.abs(v) < 1e6 && at.digits < 4 ? v.toFixed(at.digits) : v.toPrecision(3));
    });
    add(svg, 'text', {x: 56, y: 14, 'font-size': 11, fill: 'var(--soft)'}, 'µJy');
  }
  // (measured - model) / error at the same wavelengths; arrows for what lies beyond the panel.
  function residuals(svg, s, bandWave) {
    clear(svg);
    var wave = s.w || bandWave;
    var used = s.r ? wave.map(function (_, i) { return i; }).filter(function (i) { return known(s.r[i]); }) : [];
    if (!used.length) return;
    var sizes = used.map(function (i) { return Math.abs(s.r[i]); }).sort(function (a, b) { return a - b; });
    var limit = Math.max(3.5, 1.15 * sizes[Math.floor(0.98 * (sizes.length - 1))]);
    var x = scale(LOW_UM, HIGH_UM, LEFT, RIGHT), y = scale(-limit, limit, 96, 6);
    add(svg, 'rect', {x: LEFT, width: RIGHT - LEFT, y: y(1), height: y(-1) - y(1), fill: 'var(--soft)', 'fill-opacity': 0.18});
    add(svg, 'line', {x1: LEFT, x2: RIGHT, y1: y(0), y2: y(0), stroke: 'var(--soft)'});
    used.forEach(function (i) {
      var r = s.r[i], inside = Math.abs(r) <= limit, cx = x(wave[i]), cy = y(Math.max(-limit, Math.min(limit, r)));
      if (inside) add(svg, 'circle', {'class': 'residual', cx: cx, cy: cy, r: 1.9, fill: 'var(--fg)'});
      else add(svg, 'path', {'class': 'residual', fill: 'var(--missed)', d: r > 0
        ? 'M' + point(cx - 4, cy + 7) + 'L' + point(cx + 4, cy + 7) + 'L' + point(cx, cy) + 'Z'
        : 'M' + point(cx - 4, cy - 7) + 'L' + point(cx + 4, cy - 7) + 'L' + point(cx, cy) + 'Z'});
    });
    [-limit, 0, limit].forEach(function (v) {
      add(svg, 'text', {x: 46, y: y(v) + (v ? (v > 0 ? 8 : 0) : 4), 'font-size': 11, fill: 'var(--soft)',
        'text-anchor': 'end'}, (v > 0 ? '+' : '') + (limit < 10 ? v.toFixed(1) : v.toFixed(0)));
    });
    add(svg, 'text', {x: 14, y: 52, 'font-size': 11, fill: 'var(--soft)', 'text-anchor': 'middle',
      transform: 'rotate(-90 12 51)'}, 'residual [σ]');
  }
  // A smooth curve of a p(z) that is known by its quantiles q at some levels.
  function density(q, levels) {
    var points = [], i, k;
    var step = (q[q.length - 1] - q[0]) / 60 || 1e-6;
    for (k = 0; k < 60; k++) {
      var mass = at01(q, q[0] + (k + 1) * step) - at01(q, q[0] + k * step);
      points.push([q[0] + (k + 0.5) * step, mass / step]);
    }
    return points.map(function (p, j) {
      var a = points[Math.max(0, j - 1)][1], b = points[Math.min(59, j + 1)][1];
      return [p[0], (a + 2 * p[1] + b) / 4];
    });
    function at01(nodes, z) {
      if (z <= nodes[0]) return levels[0];
      for (i = 1; i < nodes.length; i++) {
        if (z <= nodes[i]) {
          var share = (z - nodes[i - 1]) / ((nodes[i] - nodes[i - 1]) || 1e-9);
          return levels[i - 1] + share * (levels[i] - levels[i - 1]);
        }
      }
      return levels[levels.length - 1];
    }
  }
  // Curves {key, name, colour, points, low, high} of p(z), each scaled to its peak; spans {low, high, label} behind them;
  // truth: a redshift, or null.
  function redshift(svg, curves, spans, truth) {
    clear(svg);
    var base = svg.viewBox.baseVal.height - 38;
    var ends = known(truth) ? [truth] : [];
    curves.forEach(function (curve) { ends.push(curve.low, curve.high); });
    if (!ends.length) { add(svg, 'text', {x: 20, y: 40, fill: 'var(--soft)'}, 'no posterior'); return; }
    var low = Math.min.apply(null, ends), high = Math.max.apply(null, ends);
    var margin = 0.06 * (high - low) + 0.005;
    if (!known(truth)) margin = Math.min(margin, 0.1 * (high - low) + 1e-4);
    low = Math.max(0, low - margin); high += margin;
    var x = scale(low, high, 12, 388);
    spans.forEach(function (span) {
      var from = x(span.low), to = Math.max(x(span.high), from + 1);
      add(svg, 'rect', {'class': 'span', x: from, width: to - from, y: 24, height: base - 24, fill: 'var(--soft)', 'fill-opacity': 0.16});
      if (span.label) add(svg, 'text', {x: Math.max(16, Math.min(384, (from + to) / 2)), y: 20, 'font-size': 11, fill: 'var(--soft)',
        'text-anchor': 'middle'}, span.label);
    });
    curves.forEach(function (curve, row) {
      var top = 0;
      curve.points.forEach(function (p) { top = Math.max(top, p[1]); });
      var y = scale(0, top, base - 4, 24);
      add(svg, 'path', {'class': 'pz-' + curve.key, fill: 'none', stroke: curve.colour, 'stroke-width': 1.8,
        d: 'M' + curve.points.map(function (p) { return point(x(p[0]), y(p[1])); }).join('L')});
      if (curve.name) add(svg, 'text', {x: 14, y: (spans.length ? 38 : 18) + 14 * row, 'font-size': 12, fill: curve.colour}, curve.name);
    });
    if (known(truth)) {
      add(svg, 'line', {x1: x(truth), x2: x(truth), y1: 10, y2: base - 2, stroke: 'var(--truth)', 'stroke-width': 1.6});
      add(svg, 'text', {x: 386, y: 18, 'font-size': 12, fill: 'var(--truth)', 'text-anchor': 'end'}, 'truth');
    }
    axis(svg, x, low, high, base, curves.length > 1 ? 'redshift (each p(z) scaled to its peak)' : 'redshift', 400);
  }
  return {add: add, clear: clear, fixed: fixed, known: known, sed: sed, residuals: residuals, density: density,
    redshift: redshift};
})();
