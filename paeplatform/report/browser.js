// The browser of single sources in the report: reads #browser-data, draws SVG, fetches nothing.
(function () {
  var data = JSON.parse(document.getElementById('browser-data').textContent);
  var names = {nf_bpz: 'PAE', tf: 'template fitting', sbi: 'SBI'};
  var colours = {nf_bpz: 'var(--accent)', tf: 'var(--fg)', sbi: 'var(--met)'};
  var why = document.getElementById('browser-why'), pick = document.getElementById('browser-source');
  var sed = document.getElementById('browser-sed'), pz = document.getElementById('browser-pz');
  var facts = document.getElementById('browser-facts'), shown = [], at = 0;
  function add(parent, tag, attributes, text) {
    var node = document.createElementNS(parent.namespaceURI, tag);
    for (var key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }
  function clear(node) { while (node.firstChild) node.removeChild(node.firstChild); }
  function fixed(value, digits) { return value === null || value === undefined ? '–' : value.toFixed(digits); }
  function scale(low, high, from, to) {
    return function (v) { return from + (v - low) / ((high - low) || 1) * (to - from); };
  }
  function axis(svg, x, low, high, y, label, width) {
    add(svg, 'line', {x1: x(low), x2: x(high), y1: y, y2: y, stroke: 'var(--soft)'});
    for (var k = 0; k <= 4; k++) {
      var v = low + (high - low) * k / 4;
      add(svg, 'text', {x: x(v), y: y + 14, 'font-size': 11, fill: 'var(--soft)', 'text-anchor': 'middle'},
        v.toFixed(high - low < 0.5 ? 3 : 2));
    }
    add(svg, 'text', {x: width / 2, y: y + 30, 'font-size': 12, fill: 'var(--fg)', 'text-anchor': 'middle'}, label);
  }
  function area(low, high, order, x, y) {
    var up = order.map(function (i) { return x(data.wave[i]) + ' ' + y(high[i]); });
    var down = order.slice().reverse().map(function (i) { return x(data.wave[i]) + ' ' + y(low[i]); });
    return 'M' + up.join('L') + 'L' + down.join('L') + 'Z';
  }
  function drawSed(s) {
    clear(sed);
    var used = [], all = data.wave.map(function (_, i) { return i; });
    all.sort(function (a, b) { return data.wave[a] - data.wave[b]; });
    all.forEach(function (i) { if (s.f[i] !== null && s.e[i] !== null) used.push(i); });
    var predicted = all.filter(function (i) { return s.m[i] !== null; });
    var values = used.map(function (i) { return s.f[i]; }).concat(predicted.map(function (i) { return s.m[i]; }));
    if (!values.length) { add(sed, 'text', {x: 20, y: 40, fill: 'var(--soft)'}, 'no usable band'); return; }
    values.sort(function (a, b) { return a - b; });
    var errors = used.map(function (i) { return s.e[i]; }).sort(function (a, b) { return a - b; });
    var margin = (errors[errors.length >> 1] || 0) + 0.1 * (values[values.length - 1] - values[0]);
    var low = values[Math.floor(values.length * 0.01)] - margin;
    var high = values[Math.ceil(values.length * 0.99) - 1] + margin;
    var x = scale(0.7, 5.05, 52, 630), y = scale(low, high, 276, 10);
    var clip = function (v) { return Math.max(6, Math.min(280, y(v))); };
    if (predicted.length) {
      add(sed, 'path', {d: area(s.l2, s.h2, predicted, x, clip), fill: 'var(--accent)', 'fill-opacity': 0.18});
      add(sed, 'path', {d: area(s.l1, s.h1, predicted, x, clip), fill: 'var(--accent)', 'fill-opacity': 0.32});
      add(sed, 'path', {d: 'M' + predicted.map(function (i) { return x(data.wave[i]) + ' ' + clip(s.m[i]); }).join('L'),
        fill: 'none', stroke: 'var(--accent)', 'stroke-width': 1.6});
    }
    used.forEach(function (i) {
      add(sed, 'line', {x1: x(data.wave[i]), x2: x(data.wave[i]), y1: clip(s.f[i] - s.e[i]), y2: clip(s.f[i] + s.e[i]),
        stroke: 'var(--truth)', 'stroke-opacity': 0.5});
      add(sed, 'circle', {'class': 'flux', cx: x(data.wave[i]), cy: clip(s.f[i]), r: 2.2, fill: 'var(--truth)'});
    });
    axis(sed, x, 0.7, 5.05, 282, 'observed wavelength [µm]', 640);
    for (var k = 0; k <= 3; k++) {
      var v = low + (high - low) * k / 3;
      add(sed, 'text', {x: 46, y: y(v) + 4, 'font-size': 11, fill: 'var(--soft)', 'text-anchor': 'end'}, v.toPrecision(3));
    }
    add(sed, 'text', {x: 56, y: 14, 'font-size': 11, fill: 'var(--soft)'}, 'µJy');
  }
  function density(q) {
    var points = [], levels = data.levels, i, k;
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
  function drawPz(s) {
    clear(pz);
    var keys = Object.keys(names).filter(function (key) { return s.methods[key]; });
    var low = s.z_true, high = s.z_true;
    keys.forEach(function (key) {
      var q = s.methods[key].q;
      low = Math.min(low, q[0]); high = Math.max(high, q[q.length - 1]);
    });
    var margin = 0.06 * (high - low) + 0.005;
    low = Math.max(0, low - margin); high += margin;
    var x = scale(low, high, 12, 388);
    keys.forEach(function (key, row) {
      var curve = density(s.methods[key].q), top = 0;
      curve.forEach(function (p) { top = Math.max(top, p[1]); });
      var y = scale(0, top, 278, 24);
      add(pz, 'path', {'class': 'pz-' + key, d: 'M' + curve.map(function (p) { return x(p[0]) + ' ' + y(p[1]); }).join('L'),
        fill: 'none', stroke: colours[key], 'stroke-width': 1.8});
      add(pz, 'text', {x: 14, y: 18 + 14 * row, 'font-size': 12, fill: colours[key]}, names[key]);
    });
    add(pz, 'line', {x1: x(s.z_true), x2: x(s.z_true), y1: 10, y2: 280, stroke: 'var(--truth)', 'stroke-width': 1.6});
    add(pz, 'text', {x: 386, y: 18, 'font-size': 12, fill: 'var(--truth)', 'text-anchor': 'end'}, 'truth');
    axis(pz, x, low, high, 282, 'redshift (each p(z) scaled to its peak)', 400);
  }
  function drawFacts(s) {
    clear(facts);
    var line = 'source ' + s.id + ' · ' + s.why + ' · true z ' + fixed(s.z_true, 4) + ' · z_AB ' + fixed(s.mag_z, 2) +
      ' · SNR ' + fixed(s.snr, 0) + ' · ' + s.type + ', ' + s.template + ' · χ² ' + fixed(s.chi2, 0) + ' · ' + s.status;
    var p = document.createElement('p'), table = document.createElement('table');
    p.textContent = line;
    facts.appendChild(p);
    [['method', 'ẑ', 'σ', 'Z-score']].concat(Object.keys(names).filter(function (key) { return s.methods[key]; })
      .map(function (key) {
        var m = s.methods[key];
        return [names[key], fixed(m.z_hat, 4), fixed(m.sigma_z, 4), fixed(m.z_score, 2)];
      })).forEach(function (cells, row) {
      var tr = document.createElement('tr');
      cells.forEach(function (text, column) {
        var cell = document.createElement(row ? 'td' : 'th');
        if (!column) cell.className = 'text';
        cell.textContent = text;
        tr.appendChild(cell);
      });
      table.appendChild(tr);
    });
    facts.appendChild(table);
  }
  function show(index) {
    if (!shown.length) return;
    at = (index + shown.length) % shown.length;
    pick.selectedIndex = at;
    drawSed(shown[at]); drawPz(shown[at]); drawFacts(shown[at]);
  }
  function filter() {
    shown = data.sources.filter(function (s) { return why.value === 'all' || s.why === why.value; });
    clear(pick);
    shown.forEach(function (s) {
      var option = document.createElement('option');
      option.textContent = s.why + ': z ' + fixed(s.z_true, 3) + ', SNR ' + fixed(s.snr, 0);
      pick.appendChild(option);
    });
    show(0);
  }
  var kinds = ['all'];
  data.sources.forEach(function (s) { if (kinds.indexOf(s.why) < 0) kinds.push(s.why); });
  kinds.forEach(function (kind) {
    var option = document.createElement('option');
    option.value = option.textContent = kind;
    why.appendChild(option);
  });
  why.addEventListener('change', filter);
  pick.addEventListener('change', function () { show(pick.selectedIndex); });
  document.getElementById('browser-back').addEventListener('click', function () { show(at - 1); });
  document.getElementById('browser-next').addEventListener('click', function () { show(at + 1); });
  document.getElementById('sources-browser').addEventListener('keydown', function (event) {
    if (event.target.tagName === 'SELECT') return;
    if (event.key === 'ArrowRight') show(at + 1);
    if (event.key === 'ArrowLeft') show(at - 1);
  });
  filter();
  document.documentElement.setAttribute('data-browser', 'ready');
})();
