(() => {
  'use strict';
  const $ = id => document.getElementById(id);
  const root = document.documentElement;
  const data = JSON.parse($('data').textContent);
  const analysed = data.recognised;
  const redraws = [];

  // Theme: as the system has it, light, dark.
  const themes = ['auto', 'light', 'dark'];
  let theme = 0;
  function setTheme(next) {
    theme = next;
    root.style.colorScheme = theme === 0 ? 'light dark' : themes[theme];
    root.dataset.theme = themes[theme];
    $('theme').textContent = 'Theme: ' + themes[theme];
    redraw();
  }
  const redraw = () => redraws.forEach(draw => draw());
  $('theme').addEventListener('click', () => setTheme((theme + 1) % themes.length));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth !== width) { width = innerWidth; redraw(); }
  });

  // A colour of the style as three numbers.
  function colour(name) {
    $('probe').style.color = `var(--${name})`;
    return getComputedStyle($('probe')).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  }
  const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;
  const mix = (a, b, share) => a.map((value, at) => Math.round(value + (b[at] - value) * share));
  const bytes = text => Uint8Array.from(atob(text), char => char.charCodeAt(0));

  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  // Sizes a canvas in pixels of the style and returns its context.
  function prepare(canvas, wide, tall) {
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(tall * ratio);
    canvas.style.width = wide + 'px';
    canvas.style.height = tall + 'px';
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    return context;
  }
  const room = canvas => Math.max(120, canvas.parentElement.clientWidth);

  // Tells of the cell under the pointer, or of the one that the arrow keys reach.
  function tell(canvas, output, grid, text) {
    let at = null;
    const show = (row, column) => {
      const { rows, columns } = grid();
      if (!rows || !columns) return;
      at = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
      output.textContent = text(at[0], at[1]);
    };
    const pointed = event => {
      const box = canvas.getBoundingClientRect(), { rows, columns } = grid();
      show(Math.floor((event.clientY - box.top) / box.height * rows), Math.floor((event.clientX - box.left) / box.width * columns));
    };
    canvas.addEventListener('pointermove', pointed);
    canvas.addEventListener('pointerdown', pointed);
    canvas.addEventListener('keydown', event => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      if (at) show(at[0] + step[0], at[1] + step[1]); else show(0, 0);
    });
  }

  // Maps of connections.
  if ($('map')) {
    data.maps.forEach((map, at) => { element('option', map.path, $('map-layer')).value = at; });
    const draw = () => {
      const map = data.maps[$('map-layer').value || 0];
      const shares = bytes(map.shares), canvas = $('map');
      const cell = Math.max(2, Math.min(14, Math.floor(Math.min(room(canvas), 420) / Math.max(map.columns, map.rows))));
      const context = prepare(canvas, cell * map.columns, cell * map.rows);
      const stays = colour('after'), gone = colour('gone');
      shares.forEach((share, k) => {
        context.fillStyle = css(mix(gone, stays, share / 255));
        context.fillRect(k % map.columns * cell, Math.floor(k / map.columns) * cell, cell, cell);
      });
      const shared = map.rows < map.outputs || map.columns < map.inputs;
      $('map-text').textContent = `${map.outputs} outputs, ${map.inputs} inputs` + (shared ? '; a cell is the share of several connections' : '');
    };
    $('map-layer').addEventListener('change', draw);
    redraws.push(draw);
  }

  if (analysed) picker();
  redraw();
  root.dataset.ready = 'true';

  function picker() {
    const named = label => label < analysed.names.length ? analysed.names[label] : 'label ' + label;
    const layers = analysed.layers;
    let layer = null, filter = null;
    layers.forEach((of, at) => { element('option', of.path, $('layer')).value = at; });

    const kind = of => of.kind === 'heads' ? 'head' : 'filter';
    const state = of => of.stays === null ? 'unknown' : of.stays ? 'stays' : 'gone';
    const words = { stays: 'stays', gone: 'removed', unknown: 'the plan does not say whether it stays' };

    function pickLayer(at) {
      layer = layers[at];
      $('layer').value = at;
      $('filter').replaceChildren();
      $('all').replaceChildren();
      layer.listed.forEach((of, k) => {
        element('option', of.index, $('filter')).value = k;
        const button = element('button', '', $('all'));
        button.type = 'button';
        button.className = state(of) + (of.clusters.length ? '' : ' silent');
        button.title = `${kind(layer)} ${of.index}`;
        button.setAttribute('aria-label', button.title);
        button.addEventListener('click', () => pick(at, k));
      });
      drawLabels();
    }

    // Picks a filter by the positions of its layer and its own. The first pick leaves the address alone.
    function pick(at, k, first) {
      if (layers[at] !== layer) pickLayer(at);
      filter = layer.listed[k];
      if (!filter) return;
      $('filter').value = k;
      [...$('all').children].forEach((button, other) => button.setAttribute('aria-pressed', other === k));
      $('picked').textContent = `${layer.path}, ${kind(layer)} ${filter.index}`;
      const labels = filter.clusters.reduce((sum, cluster) => sum + cluster.length, 0) + filter.more;
      $('facts').textContent = labels
        ? `${words[state(filter)]}; ${labels} labels in ${filter.clusters.length} clusters, noise ${filter.noise}, largest element ${number(filter.max)}`
        : `${words[state(filter)]}; recognises no label`;
      $('clusters').replaceChildren();
      filter.clusters.forEach(cluster => element('li', cluster.map(named).join(', '), $('clusters')));
      if (filter.more) element('li', `and ${filter.more} more labels`, $('clusters'));
      $('cell').textContent = '';
      drawMatrix();
      if (first) return;
      try { history.replaceState(null, '', `#filter=${at}:${filter.index}`); } catch { /* some viewers refuse */ }
    }

    const number = value => value === null ? 'not a number' : Number(value).toPrecision(3);

    // What is drawn of a filter: its matrix, or its clusters alone.
    function shown() {
      const matrix = filter && filter.matrix;
      if (matrix) return matrix;
      const clusters = filter ? filter.clusters : [];
      return { labels: clusters.flat(), clusters: clusters.map(cluster => cluster.length), elements: null };
    }

    function drawMatrix() {
      if (!filter) return;
      const { labels, clusters, elements, more } = shown(), size = labels.length, canvas = $('matrix');
      canvas.hidden = size === 0;
      $('matrix-note').textContent = note(elements, more);
      if (size === 0) return;
      const cell = Math.max(2, Math.min(24, Math.floor((Math.min(room(canvas), 520) - 2) / size)));
      const side = cell * size;
      const context = prepare(canvas, side + 2, side + 2);
      context.translate(1, 1);
      const ground = colour('card'), plus = colour('positive'), minus = colour('negative');
      if (elements) {
        const values = new Int8Array(bytes(elements).buffer);
        values.forEach((value, k) => {
          context.fillStyle = css(mix(ground, value < 0 ? minus : plus, Math.abs(value) / 127));
          context.fillRect(k % size * cell, Math.floor(k / size) * cell, cell, cell);
        });
      }
      context.strokeStyle = css(colour('line'));
      context.strokeRect(-.5, -.5, side + 1, side + 1);
      let start = 0;
      context.lineWidth = 2;
      for (const length of clusters) {
        if (!elements) {
          context.fillStyle = css(mix(ground, plus, .6));
          context.fillRect(start * cell, start * cell, length * cell, length * cell);
        }
        context.strokeStyle = css(colour('outline'));
        context.strokeRect(start * cell, start * cell, length * cell, length * cell);
        start += length;
      }
    }

    function note(elements, more) {
      if (!elements) {
        return analysed.has_matrices
          ? 'The matrices of some filters only are in this file; this one shows the blocks of the clusters.'
          : 'The analysis kept no matrices (AnalyzeConfig::with_state(true) keeps them): the blocks of the clusters are shown, what lies outside is not known.';
      }
      const part = more ? ` ${more} further labels are not shown.` : '';
      return 'Rows: label shown; columns: output of the readout; clusters first, outlined. Blue supports the output, orange speaks against it.' + part;
    }

    tell($('matrix'), $('cell'), () => ({ rows: shown().labels.length, columns: shown().labels.length }), (row, column) => {
      const { labels, elements, scale } = shown();
      const place = `shown: ${named(labels[row])} → output: ${named(labels[column])}`;
      if (!elements) return place;
      const value = new Int8Array(bytes(elements).buffer)[row * labels.length + column] / 127 * scale;
      const share = filter.max > 0 ? `, ${(value / filter.max).toFixed(2)} of the largest (threshold ${analysed.threshold})` : '';
      return `${place}: ${number(value)}${share}`;
    });

    function drawLabels() {
      const { bars } = layer.labels, canvas = $('labels');
      const wide = Math.min(room(canvas), 520), tall = 120;
      const context = prepare(canvas, wide, tall);
      const most = Math.max(...bars, 1), step = wide / bars.length;
      context.fillStyle = css(colour('after'));
      bars.forEach((value, at) => {
        const height = value / most * (tall - 2);
        context.fillRect(at * step, tall - 1 - height, Math.max(step - (step > 3 ? 1 : 0), .5), height);
      });
      context.fillStyle = css(colour('quiet'));
      context.fillRect(0, tall - 1, wide, 1);
      const { least, most: largest, missing } = layer.labels;
      $('label').textContent = `between ${least} and ${largest} filters recognise a label; ${missing} labels have none`;
    }

    tell($('labels'), $('label'), () => ({ rows: 1, columns: layer.labels.bars.length }), (_, at) => {
      const { bars, width } = layer.labels, first = at * width, last = Math.min(first + width, analysed.classes) - 1;
      const what = width === 1 ? named(first) : `${named(first)} to ${named(last)} (mean)`;
      return `${what}: ${bars[at]} of ${layer.filters}`;
    });

    const position = () => [Number($('layer').value), Number($('filter').value)];
    const step = by => {
      const [at, k] = position(), count = layer.listed.length;
      if (count) pick(at, (k + by + count) % count);
    };
    $('layer').addEventListener('change', () => pick(Number($('layer').value), 0));
    $('filter').addEventListener('change', () => pick(...position()));
    $('previous').addEventListener('click', () => step(-1));
    $('next').addEventListener('click', () => step(1));

    // `#filter=LAYER:FILTER` picks a filter, by the layer's number and the filter's index.
    function fromAddress() {
      const found = /^#filter=(\d+):(\d+)$/.exec(location.hash);
      if (!found || !layers[found[1]]) return false;
      const k = layers[found[1]].listed.findIndex(of => of.index === Number(found[2]));
      if (k < 0) return false;
      pick(Number(found[1]), k);
      return true;
    }
    addEventListener('hashchange', () => { if (fromAddress()) $('filters').scrollIntoView(); });
    if (fromAddress()) {
      $('filters').scrollIntoView();
    } else if (layers.length) {
      // The last layer is the clearest one; its first filter that recognises something.
      const at = layers.length - 1;
      pick(at, Math.max(0, layers[at].listed.findIndex(of => of.clusters.length)), true);
    }
    redraws.push(() => { drawMatrix(); if (layer) drawLabels(); });
  }
})();
