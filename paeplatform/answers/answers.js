// The page of answers: filters and sorts the table, and draws the chosen source with draw.js. Texts are set as text only.
(function () {
  var data = JSON.parse(document.getElementById('answers-data').textContent);
  function by(id) { return document.getElementById(id); }
  var box = by('rows'), body = box.querySelector('tbody'), heads = [].slice.call(box.querySelectorAll('th'));
  var rows = [].slice.call(body.rows), shown = rows.slice(), chosen = null;
  var words = {tf: 'template fitting', sbi: 'SBI'}, colours = {tf: 'var(--fg)', sbi: 'var(--met)'};
  rows.forEach(function (row) { row.words = row.textContent.toLowerCase(); });

  function curves(s) {
    var list = [];
    if (s.z.length) {
      list.push({key: 'pae', name: s.bad ? 'PAE, not usable' : 'PAE', colour: s.bad ? 'var(--soft)' : 'var(--accent)',
        points: s.z.map(function (z, k) { return [z, s.p[k]]; })
          .filter(function (p) { return p[0] >= s.range[0] - 0.05 * (s.range[1] - s.range[0]) &&
            p[0] <= s.range[1] + 0.05 * (s.range[1] - s.range[0]); }),
        low: s.range[0], high: s.range[1]});
    }
    Object.keys(s.others).forEach(function (key) {
      var q = s.others[key], bad = s.unusable.indexOf(key) >= 0;
      list.push({key: key, name: bad ? words[key] + ', not usable' : words[key], colour: bad ? 'var(--soft)' : colours[key],
        points: draw.density(q, data.levels), low: q[0], high: q[q.length - 1]});
    });
    return list;
  }
  function spans(s) {
    return s.peaks.map(function (peak) {
      return {low: peak[0], high: peak[1], label: s.peaks.length > 1 ? Math.round(100 * peak[2]) + ' %' : ''};
    });
  }
  function says(lines, bad) {
    var node = by('says');
    draw.clear(node);
    node.className = bad ? 'bad' : '';
    lines.forEach(function (text) { draw.add(node, 'p', {}, text); });
  }
  function choose(row) {
    if (chosen) chosen.classList.remove('chosen');
    chosen = row;
    if (!row) return;
    row.classList.add('chosen');
    keepInView(row);
    var s = data.sources[+row.getAttribute('data-i')];
    by('name').textContent = row.cells[0].textContent;
    document.querySelector('.browser').classList.toggle('undrawn', !s);
    if (!s) {
      ['sed', 'residuals', 'pz'].forEach(function (id) { draw.clear(by(id)); });
      says(['This source is in the table only: the page draws the first ' + data.sources.length + '.'], false);
      return;
    }
    draw.sed(by('sed'), s);
    draw.residuals(by('residuals'), s);
    by('residuals').style.display = s.r ? '' : 'none';
    draw.redshift(by('pz'), curves(s), spans(s), null);
    says(s.says, s.bad);
  }
  function keepInView(row) {
    var head = box.querySelector('thead').offsetHeight, top = row.offsetTop;
    if (top - head < box.scrollTop) box.scrollTop = top - head;
    else if (top + row.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top + row.offsetHeight - box.clientHeight;
  }
  function leaf(step) {
    if (!shown.length) return;
    var at = shown.indexOf(chosen);
    choose(shown[at < 0 ? 0 : (at + step + shown.length) % shown.length]);
  }
  function filter() {
    var status = by('by-status').value, text = by('by-text').value.trim().toLowerCase();
    shown = rows.filter(function (row) {
      var keep = (!status || row.getAttribute('data-status') === status) && row.words.indexOf(text) >= 0;
      row.style.display = keep ? '' : 'none';
      return keep;
    });
    by('count').textContent = shown.length + ' of ' + rows.length + ' sources';
    if (shown.length && shown.indexOf(chosen) < 0) choose(shown[0]);
  }
  function key(row, column) {
    var cell = row.cells[column], value = cell.getAttribute('data-v');
    return value === null ? cell.textContent : +value;
  }
  function sort(column, head) {
    var down = head.getAttribute('aria-sort') === 'ascending', sign = down ? -1 : 1;
    heads.forEach(function (other) { other.removeAttribute('aria-sort'); });
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    rows.forEach(function (row) { row.key = key(row, column); });
    rows.sort(function (a, b) {
      var numbers = typeof a.key === 'number', same = numbers === (typeof b.key === 'number');
      // cells without a number come last in both directions
      if (!same) return numbers ? -1 : 1;
      var order = numbers ? a.key - b.key : a.key.localeCompare(b.key, undefined, {numeric: true});
      return sign * order || a.getAttribute('data-i') - b.getAttribute('data-i');
    });
    rows.forEach(function (row) { body.appendChild(row); });
    filter();
    if (chosen) keepInView(chosen);
  }
  heads.forEach(function (head, column) {
    head.setAttribute('role', 'button');
    head.setAttribute('tabindex', '0');
    head.addEventListener('click', function () { sort(column, head); });
    head.addEventListener('keydown', function (event) { if (event.key === 'Enter') sort(column, head); });
  });
  body.addEventListener('click', function (event) { choose(event.target.closest('tr')); });
  by('by-status').addEventListener('change', filter);
  by('by-text').addEventListener('input', filter);
  by('back').addEventListener('click', function () { leaf(-1); });
  by('next').addEventListener('click', function () { leaf(1); });
  document.addEventListener('keydown', function (event) {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.altKey || event.metaKey) return;
    var inTable = box.contains(event.target);
    var step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: inTable ? 1 : 0, ArrowUp: inTable ? -1 : 0}[event.key];
    if (!step) return;
    event.preventDefault();
    leaf(step);
  });
  by('controls').hidden = false;
  by('chosen').hidden = !rows.length;
  document.documentElement.classList.add('ready');
  filter();
  document.documentElement.setAttribute('data-answers', 'ready');
})();
