// The browser of single sources in the report: reads #browser-data and draws with draw.js.
(function () {
  var data = JSON.parse(document.getElementById('browser-data').textContent);
  var names = {nf_bpz: 'PAE', tf: 'template fitting', sbi: 'SBI'};
  var colours = {nf_bpz: 'var(--accent)', tf: 'var(--fg)', sbi: 'var(--met)'};
  var why = document.getElementById('browser-why'), pick = document.getElementById('browser-source');
  var sed = document.getElementById('browser-sed'), pz = document.getElementById('browser-pz');
  var facts = document.getElementById('browser-facts'), shown = [], at = 0, fixed = draw.fixed;
  function methods(s) { return Object.keys(names).filter(function (key) { return s.methods[key]; }); }
  function drawPz(s) {
    draw.redshift(pz, methods(s).map(function (key) {
      var q = s.methods[key].q;
      return {key: key, name: names[key], colour: colours[key], points: draw.density(q, data.levels),
        low: q[0], high: q[q.length - 1]};
    }), [], s.z_true);
  }
  function drawFacts(s) {
    draw.clear(facts);
    var line = 'source ' + s.id + ' · ' + s.why + ' · true z ' + fixed(s.z_true, 4) + ' · z_AB ' + fixed(s.mag_z, 2) +
      ' · SNR ' + fixed(s.snr, 0) + ' · ' + s.type + ', ' + s.template + ' · χ² ' + fixed(s.chi2, 0) + ' · ' + s.status;
    var p = document.createElement('p'), table = document.createElement('table');
    p.textContent = line;
    facts.appendChild(p);
    [['method', 'ẑ', 'σ', 'Z-score']].concat(methods(s).map(function (key) {
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
    draw.sed(sed, shown[at], data.wave); drawPz(shown[at]); drawFacts(shown[at]);
  }
  function filter() {
    shown = data.sources.filter(function (s) { return why.value === 'all' || s.why === why.value; });
    draw.clear(pick);
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
