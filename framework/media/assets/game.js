// Plays recorded games: one clock for all of them, drawn on canvas. No library; nothing is loaded.
"use strict";
(() => {
const REACH = 4, LARGEST = 32767, NO_POINT = -32768, LOGIT_STEPS = 254, NO_LOGIT = 255, NO_LENGTH = 255;
const FRAMES_PER_SECOND = 12, CALM_FRAMES_PER_SECOND = 2, DECADES = 4, THUMB = 18;

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const words16 = (text) => { const raw = bytes(text); return new Int16Array(raw.buffer, 0, raw.length >> 1); };
const count = (value) => Math.round(value).toLocaleString("en");
const brief = (value) => value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(1).replace("e+", "e").replace("-", "−") : String(+value.toPrecision(3)).replace("-", "−");
const atOrBefore = (sorted, value) => { let low = -1, high = sorted.length; while (high - low > 1) { const middle = (low + high) >> 1; if (sorted[middle] <= value) low = middle; else high = middle; } return low; };
const shortImages = (value) => value >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M` : value >= 1e3 ? `${+(value / 1e3).toPrecision(3)}k` : String(value);
const svg = (name, attributes, parent, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
};
const html = (name, attributes, parent, text) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
};

// ---- one run: its frames as numbers ---------------------------------------------------------------------------------

class Run {
  constructor(data) {
    Object.assign(this, data);
    this.coordinate = REACH * this.half / LARGEST;
    this.real = this.points(this.reals);
    this.kept = new Map();
  }
  points(text) {
    const codes = words16(text), places = new Float64Array(codes.length);
    for (let i = 0; i < codes.length; i++) places[i] = codes[i] === NO_POINT ? NaN : codes[i] * this.coordinate + this.centre[i % 2];
    return places;
  }
  // Length and direction of each arrow.
  arrowsOf(text) {
    const codes = bytes(text), found = [];
    for (let i = 0; i < codes.length; i += 2) {
      const length = codes[i + 1] === NO_LENGTH ? NaN : codes[i + 1] ? 2 ** ((codes[i + 1] - 128) / 4) : 0;
      found.push({ length, angle: codes[i] * 2 * Math.PI / 256 });
    }
    return found;
  }
  frame(clock) {
    const place = Math.max(0, atOrBefore(this.images, clock));
    if (!this.kept.has(place)) {
      if (this.kept.size > 64) this.kept.clear();
      const codes = bytes(this.surface[place]), logits = new Float64Array(codes.length), step = (this.high[place] - this.low[place]) / LOGIT_STEPS;
      for (let i = 0; i < codes.length; i++) logits[i] = codes[i] === NO_LOGIT ? NaN : this.low[place] + codes[i] * step;
      const arrows = this.arrowsOf(this.arrow[place]);
      const lengths = arrows.map((one) => one.length).filter((one) => !Number.isNaN(one)).sort((a, b) => a - b);
      const hits = this.hits[place] ?? [];
      this.kept.set(place, {
        place, images: this.images[place], logits, arrows, fakes: this.points(this.fakes[place]), grid: this.points(this.grids[place]),
        gradient: lengths.length ? lengths[lengths.length >> 1] : null, hits, modesHit: hits.filter((hit) => hit > 0).length,
        good: hits.reduce((sum, hit) => sum + hit, 0) / this.num_fakes, real_logit: this.real_logit[place], fake_logit: this.fake_logit[place],
      });
    }
    return this.kept.get(place);
  }
  // The undecided logit, or the middle between real and generated points where a loss has none.
  even(frame) { return this.undecided ?? ((frame.real_logit ?? 0) + (frame.fake_logit ?? 0)) / 2; }
  logitAt(frame, x, y) {
    const last = this.side - 1, across = (x - this.centre[0] + this.half) / (2 * this.half) * last, up = (y - this.centre[1] + this.half) / (2 * this.half) * last;
    if (!(across >= 0 && across <= last && up >= 0 && up <= last)) return NaN;
    const column = Math.min(last - 1, Math.floor(across)), row = Math.min(last - 1, Math.floor(up)), u = across - column, v = up - row;
    const at = (r, c) => frame.logits[r * this.side + c];
    return (1 - v) * ((1 - u) * at(row, column) + u * at(row, column + 1)) + v * ((1 - u) * at(row + 1, column) + u * at(row + 1, column + 1));
  }
  outside(frame) {
    let number = 0;
    for (let i = 0, end = frame.fakes.length; i < end; i += 2)
      if (!(Math.abs(frame.fakes[i] - this.centre[0]) <= this.half && Math.abs(frame.fakes[i + 1] - this.centre[1]) <= this.half)) number++;
    return number;
  }
  // In words; of several runs in few, because the curves have the rest.
  facts(frame, few = false) {
    const told = [];
    if (frame.hits.length) told.push(`${frame.modesHit} of ${frame.hits.length} modes hit`, `${Math.round(100 * frame.good)} % of points good`);
    if (!few && frame.real_logit !== null && frame.fake_logit !== null) told.push(`D's mean logit ${brief(frame.real_logit)} on real, ${brief(frame.fake_logit)} on generated`);
    if (frame.gradient !== null && this.num_arrows) told.push(`median gradient ${brief(+frame.gradient.toPrecision(2))}`);
    const lost = this.outside(frame);
    if (lost) told.push(`${lost} of ${this.num_fakes} points outside`);
    return told.join(" · ");
  }
}

// ---- drawing one run ------------------------------------------------------------------------------------------------

const channels = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
const between = (a, b, share) => a.map((one, i) => one + (b[i] - one) * share);

class Stage {
  constructor(game, run, figure) {
    Object.assign(this, { game, run, canvas: figure.querySelector("canvas"), facts: figure.querySelector(".g-facts"), told: figure.querySelector(".g-probe") });
    this.pen = this.canvas.getContext("2d");
    this.tile = document.createElement("canvas");
    this.tile.width = this.tile.height = run.side;
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => game.probeAt(null));
    this.canvas.addEventListener("keydown", (event) => this.walk(event));
    this.canvas.addEventListener("blur", () => game.probeAt(null));
  }
  point(event) {
    const box = this.canvas.getBoundingClientRect(), { centre, half } = this.run;
    this.game.probeAt([centre[0] + ((event.clientX - box.left) / box.width * 2 - 1) * half, centre[1] - ((event.clientY - box.top) / box.height * 2 - 1) * half]);
  }
  // The pointer for those who use keys: Shift and an arrow.
  walk(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by || !event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    const { centre, half } = this.run, from = this.game.probe ?? centre;
    this.game.probeAt(from.map((one, i) => Math.min(centre[i] + half, Math.max(centre[i] - half, one + by[i] * half / 20))));
    this.game.say(this.told.textContent);
  }
  resize() {
    const side = Math.round(this.canvas.getBoundingClientRect().width * (window.devicePixelRatio || 1));
    if (side && this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const width = Math.max(1, this.canvas.getBoundingClientRect().width);
    this.dots = side / width;
    this.marks = this.dots * Math.min(1, Math.max(.7, width / 520)); // smaller pictures have smaller marks
  }
  x(value) { return (value - this.run.centre[0] + this.run.half) / (2 * this.run.half) * this.canvas.width; }
  y(value) { return (this.run.half - value + this.run.centre[1]) / (2 * this.run.half) * this.canvas.height; }

  draw(clock) {
    const { run, pen, game } = this, frame = run.frame(clock), on = game.layers, { width, height } = this.canvas;
    this.facts.textContent = run.facts(frame, game.runs.length > 1);
    pen.clearRect(0, 0, width, height);
    if (on.surface) this.drawSurface(frame);
    this.drawAxes();
    if (on.modes) this.drawModes(frame);
    if (on.reals) this.drawReals();
    if (on.grid) this.drawGrid(frame);
    if (on.arrows) this.drawArrows(frame);
    if (on.fakes) this.drawDots(frame.fakes, 2.1, game.colours.fake, .9);
    this.drawProbe(frame);
  }
  drawSurface(frame) {
    const { run, pen, game } = this, side = run.side, even = run.even(frame), pixels = new ImageData(side, side);
    let most = 1e-12;
    for (const logit of frame.logits) if (Math.abs(logit - even) > most) most = Math.abs(logit - even);
    const { real, middle, fake } = game.colours.surface;
    for (let row = 0; row < side; row++) for (let column = 0; column < side; column++) {
      const logit = frame.logits[row * side + column];
      const lean = Number.isNaN(logit) ? 0 : run.probability ? 2 / (1 + Math.exp(-logit)) - 1 : (logit - even) / most;
      const colour = between(middle, lean > 0 ? real : fake, Math.min(1, Math.abs(lean)) ** .8);
      pixels.data.set([...colour, Number.isNaN(logit) ? 0 : 255], 4 * ((side - 1 - row) * side + column));
    }
    this.tile.getContext("2d").putImageData(pixels, 0, 0);
    // The values are those of points, the outermost on the edge of the square.
    const cell = this.canvas.width / (side - 1);
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.tile, -cell / 2, -cell / 2, cell * side, cell * side);
    this.drawBoundary(frame, even);
  }
  // Where the discriminator is undecided: straight pieces through the cells (marching squares).
  drawBoundary(frame, even) {
    const { run, pen } = this, side = run.side, cell = this.canvas.width / (side - 1), size = this.canvas.height;
    pen.beginPath();
    for (let row = 0; row + 1 < side; row++) for (let column = 0; column + 1 < side; column++) {
      const corners = [[column, row], [column + 1, row], [column + 1, row + 1], [column, row + 1]];
      const values = corners.map(([c, r]) => frame.logits[r * side + c] - even), cuts = [];
      for (let i = 0; i < 4; i++) {
        const j = (i + 1) % 4;
        if ((values[i] > 0) === (values[j] > 0) || Number.isNaN(values[i] + values[j])) continue;
        const share = values[i] / (values[i] - values[j]);
        cuts.push([0, 1].map((axis) => corners[i][axis] + share * (corners[j][axis] - corners[i][axis])));
      }
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        pen.moveTo(cuts[i][0] * cell, size - cuts[i][1] * cell);
        pen.lineTo(cuts[i + 1][0] * cell, size - cuts[i + 1][1] * cell);
      }
    }
    pen.globalAlpha = .55;
    pen.lineWidth = 1.2 * this.dots;
    pen.setLineDash([5 * this.dots, 4 * this.dots]);
    pen.strokeStyle = this.game.colours.ink;
    pen.stroke();
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }
  drawAxes() {
    const { run, pen, dots } = this, { centre, half } = run, rough = half / 2, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * .999);
    pen.fillStyle = pen.strokeStyle = this.game.colours.ink;
    pen.globalAlpha = .62;
    pen.lineWidth = dots;
    pen.font = `${11 * dots}px ui-sans-serif, system-ui, sans-serif`;
    for (const axis of [0, 1]) for (let i = Math.ceil((centre[axis] - half * .9) / step); i * step <= centre[axis] + half * .9; i++) {
      const text = brief(+(i * step).toPrecision(6)), at = axis ? this.y(i * step) : this.x(i * step), length = 5 * dots, edge = this.canvas.height;
      pen.beginPath();
      if (axis) { pen.moveTo(0, at); pen.lineTo(length, at); } else { pen.moveTo(at, edge); pen.lineTo(at, edge - length); }
      pen.stroke();
      pen.textAlign = axis ? "left" : "center";
      pen.textBaseline = axis ? "middle" : "alphabetic";
      pen.fillText(text, axis ? 8 * dots : at, axis ? at : edge - 8 * dots);
    }
    pen.globalAlpha = 1;
  }
  drawModes(frame) {
    const { run, pen, dots, marks } = this;
    run.modes.forEach(([x, y], place) => {
      const hit = frame.hits[place] > 0, radius = Math.max(12 * marks, run.mode_radius / (2 * run.half) * this.canvas.width);
      pen.beginPath();
      pen.arc(this.x(x), this.y(y), radius, 0, 7);
      pen.setLineDash(hit ? [] : [3 * dots, 4 * dots]);
      pen.lineWidth = (hit ? 2 : 1.4) * dots;
      pen.strokeStyle = this.game.colours.ink;
      pen.globalAlpha = hit ? .9 : .65;
      pen.stroke();
    });
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }
  // Discs of which only the common outline is drawn: all of them in its colour, then smaller ones in theirs.
  drawReals() {
    this.drawDots(this.run.real, 4.2, this.game.colours.edge, 1);
    this.drawDots(this.run.real, 3.2, this.game.colours.disc, 1);
  }
  drawDots(points, radius, colour, alpha) {
    const { pen, marks } = this;
    pen.fillStyle = colour;
    pen.globalAlpha = alpha;
    pen.beginPath();
    for (let i = 0; i < points.length; i += 2) {
      if (Number.isNaN(points[i])) continue;
      const x = this.x(points[i]), y = this.y(points[i + 1]);
      pen.moveTo(x + radius * marks, y);
      pen.arc(x, y, radius * marks, 0, 7);
    }
    pen.fill();
    pen.globalAlpha = 1;
  }
  drawGrid(frame) {
    const { run, pen } = this, [rows, columns] = run.grid;
    const path = (places) => {
      let down = false;
      for (const i of places) {
        const x = this.x(frame.grid[2 * i]), y = this.y(frame.grid[2 * i + 1]);
        if (Number.isNaN(x + y)) { down = false; continue; }
        if (down) pen.lineTo(x, y); else pen.moveTo(x, y);
        down = true;
      }
    };
    pen.beginPath();
    for (let row = 0; row < rows; row++) path(Array.from({ length: columns }, (_, column) => row * columns + column));
    if (rows > 1) for (let column = 0; column < columns; column++) path(Array.from({ length: rows }, (_, row) => row * columns + column));
    pen.strokeStyle = this.game.colours.grid;
    pen.lineWidth = 1.1 * this.marks;
    pen.globalAlpha = .62;
    pen.stroke();
    pen.globalAlpha = 1;
  }
  drawArrows(frame) {
    const { pen, marks, game } = this, most = this.canvas.width / 14;
    pen.strokeStyle = game.colours.arrow;
    pen.lineWidth = 1.15 * marks;
    pen.globalAlpha = .85;
    pen.beginPath();
    frame.arrows.forEach(({ length, angle }, i) => {
      const size = most * Math.min(1, Math.max(0, 1 + Math.log10(length / game.longest) / DECADES));
      const x = this.x(frame.fakes[2 * i]), y = this.y(frame.fakes[2 * i + 1]);
      if (!(size > 0) || Number.isNaN(x + y)) return;
      const tip = [x + size * Math.cos(angle), y - size * Math.sin(angle)], head = Math.min(4.5 * marks, size / 2);
      pen.moveTo(x, y);
      pen.lineTo(...tip);
      for (const turn of [2.6, -2.6]) {
        pen.moveTo(...tip);
        pen.lineTo(tip[0] + head * Math.cos(angle + turn), tip[1] - head * Math.sin(angle + turn));
      }
    });
    pen.stroke();
    pen.globalAlpha = 1;
  }
  drawProbe(frame) {
    const { run, pen, dots } = this, probe = this.game.probe;
    if (!probe) { this.told.textContent = "Point at the picture for values."; return; }
    const [x, y] = probe, logit = run.logitAt(frame, x, y), told = [`At (${brief(+x.toFixed(2))}, ${brief(+y.toFixed(2))})`];
    told.push(Number.isNaN(logit) ? "outside" : `logit ${brief(logit)}`);
    if (run.probability && !Number.isNaN(logit)) told.push(`D = ${(1 / (1 + Math.exp(-logit))).toFixed(2)}`);
    pen.strokeStyle = this.game.colours.ink;
    pen.lineWidth = 1.4 * dots;
    const near = this.nearest(frame, x, y);
    if (near !== null) {
      told.push(`generated point ${near + 1} at (${brief(+frame.fakes[2 * near].toFixed(2))}, ${brief(+frame.fakes[2 * near + 1].toFixed(2))})`);
      if (near < run.num_arrows) told.push(`gradient ${brief(+frame.arrows[near].length.toPrecision(2))}`);
      pen.beginPath();
      pen.arc(this.x(frame.fakes[2 * near]), this.y(frame.fakes[2 * near + 1]), 6 * dots, 0, 7);
      pen.stroke();
    }
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(this.x(x) + 4 * dx * dots, this.y(y) + 4 * dy * dots);
      pen.lineTo(this.x(x) + 10 * dx * dots, this.y(y) + 10 * dy * dots);
    }
    pen.stroke();
    this.told.textContent = told.join(" · ");
  }
  nearest(frame, x, y) {
    let found = null, least = (10 * this.dots / this.canvas.width * 2 * this.run.half) ** 2;
    for (let i = 0, end = frame.fakes.length; i < end; i += 2) {
      const far = (frame.fakes[i] - x) ** 2 + (frame.fakes[i + 1] - y) ** 2;
      if (far < least) { least = far; found = i / 2; }
    }
    return found;
  }
}

// ---- curves on the same clock ---------------------------------------------------------------------------------------

const LEFT = 44, RIGHT = 8, TOP = 6, BOTTOM = 18;

class Chart {
  constructor(game, place, { title, first, second, lines, log, share }) {
    Object.assign(this, { game, lines, log, share, first, second });
    const caption = html("figcaption", {}, place);
    html("b", {}, caption, title);
    this.values = html("span", { class: "g-values" }, caption);
    this.picture = svg("svg", { role: "img", "aria-label": `${title} over images seen: ${first} as a solid line, ${second} as a dashed line` }, place);
    const seek = (event) => { if (event.type === "pointerdown" || event.buttons) game.seek(this.placeAt(event)); };
    for (const kind of ["pointerdown", "pointermove"]) this.picture.addEventListener(kind, seek);
  }
  placeAt(event) {
    const box = this.picture.getBoundingClientRect();
    return Math.round((event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT) * (this.game.clocks.length - 1));
  }
  draw() {
    const width = Math.max(120, this.picture.getBoundingClientRect().width), height = this.height = this.game.runs.length > 1 ? 150 : 112;
    this.picture.replaceChildren();
    this.picture.setAttribute("height", height);
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const values = this.lines.flatMap((line) => line.points.map(([, y]) => y)).filter((y) => !this.log || y > 0);
    let low = this.share ? 0 : Math.min(...values), high = this.share ? 1 : Math.max(...values);
    if (!values.length) [low, high] = [0, 1];
    const bent = this.log && low > 0 && high / low > 20, shape = bent ? Math.log10 : (y) => y;
    if (low === high) { low -= .5; high += .5; }
    const last = Math.max(1, this.game.clocks.length - 1);
    this.x = (place) => LEFT + place / last * (width - LEFT - RIGHT);
    this.y = (y) => TOP + (shape(high) - shape(y)) / (shape(high) - shape(low)) * (height - TOP - BOTTOM);
    for (const tick of this.ticks(low, high, bent)) {
      svg("line", { x1: LEFT, x2: width - RIGHT, y1: this.y(tick), y2: this.y(tick), class: "g-rule" }, this.picture);
      svg("text", { x: LEFT - 6, y: this.y(tick) + 4, "text-anchor": "end" }, this.picture, this.share ? `${Math.round(100 * tick)} %` : brief(tick));
    }
    const room = (width - LEFT - RIGHT) / 62;
    for (const [images, place] of this.game.ticks(room)) svg("text", { x: this.x(place), y: height - 4, "text-anchor": place > last * .96 ? "end" : place < last * .04 ? "start" : "middle" }, this.picture, shortImages(images));
    for (const { place, state } of this.game.marks) svg("line", { x1: this.x(place), x2: this.x(place), y1: TOP, y2: height - BOTTOM, class: `g-alert ${state}` }, this.picture);
    for (const line of this.lines) {
      const path = line.points.filter(([, y]) => !bent || y > 0).map(([images, y], i) => `${i ? "L" : "M"}${this.x(this.game.placeOf(images)).toFixed(1)} ${this.y(y).toFixed(1)}`).join("");
      svg("path", { d: path, class: `g-curve g-r${line.run} ${line.second ? "second" : ""}` }, this.picture);
    }
    this.over = svg("g", {}, this.picture);
    this.show();
  }
  ticks(low, high, bent) {
    if (this.share) return [0, .5, 1];
    if (bent) {
      const found = [], every = Math.max(1, Math.ceil(Math.log10(high / low) / 3));
      for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) if (power % every === 0) found.push(+(10 ** power).toPrecision(6));
      return found;
    }
    const rough = (high - low) / 3, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * .999), found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(+(i * step).toPrecision(8));
    return found;
  }
  show() {
    if (!this.over) return;
    const { game } = this, x = this.x(game.place), told = [];
    this.over.replaceChildren();
    this.values.replaceChildren();
    svg("line", { x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM, class: "g-now" }, this.over);
    for (const line of this.lines) {
      const place = atOrBefore(line.clocks, game.clock);
      if (place < 0) continue;
      const [images, value] = line.points[place];
      if (Number.isFinite(this.y(value))) svg("circle", { cx: this.x(game.placeOf(images)), cy: this.y(value), r: 3, class: `g-dot g-r${line.run}` }, this.over);
      const text = line.told ? line.told(images) : brief(value);
      (told[line.run] ??= []).push(`${line.second ? this.second : this.first} ${text}`);
    }
    told.forEach((texts, run) => {
      const one = html("span", { class: `g-r${run}` }, this.values);
      if (game.runs.length > 1) html("span", { class: "g-swatch" }, one);
      one.append(texts.join(", "));
    });
  }
}

// ---- all of it ------------------------------------------------------------------------------------------------------

class Game {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.runs = JSON.parse(this.find(".g-data").textContent).runs.map((data) => new Run(data));
    this.clocks = [...new Set(this.runs.flatMap((run) => run.images))].sort((a, b) => a - b);
    this.place = this.clocks.length - 1;
    this.layers = {};
    this.probe = null;
    this.playing = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.longest = this.longestArrow();
    this.marks = this.gatherMarks();
    this.slider = this.find("input[type=range]");
    this.stages = [...root.querySelectorAll(".g-runs figure")].map((figure, i) => new Stage(this, this.runs[i], figure));
    this.charts = this.makeCharts();
    this.listen();
    this.readColours();
    for (const button of root.querySelectorAll("[data-layer]")) this.layers[button.dataset.layer] = button.getAttribute("aria-pressed") === "true";
    const told = this.find(".g-arrow-scale");
    if (told) told.textContent = `The longest stand for ${brief(this.longest)} and more; a quarter of the length is a factor of ten.`;
    this.measure();
    root.dataset.ready = "yes";
  }
  get clock() { return this.clocks[this.place]; }

  // A power of ten that few gradients of all runs exceed.
  longestArrow() {
    const lengths = this.runs.flatMap((run) => run.arrow.flatMap((text) => run.arrowsOf(text).map((one) => one.length))).filter((one) => one > 0).sort((a, b) => a - b);
    return lengths.length ? 10 ** Math.ceil(Math.log10(lengths[Math.floor(lengths.length * .99)]) - .3) : 1;
  }
  placeOf(images) {
    const place = atOrBefore(this.clocks, images);
    if (place < 0) return 0;
    if (place === this.clocks.length - 1) return place;
    return place + (images - this.clocks[place]) / (this.clocks[place + 1] - this.clocks[place]);
  }
  gatherMarks() {
    return this.runs.flatMap((run, number) => run.marks.map((mark) => ({ ...mark, run: number, place: this.placeOf(mark.images) })));
  }
  // Round numbers of images seen, and their places on the axis, so many at most.
  ticks(most) {
    const end = this.clocks[this.clocks.length - 1], found = [[0, 0]], last = this.clocks.length - 1, gap = last / Math.max(1, most);
    for (let power = 0; 10 ** power < end; power++) for (const factor of [1, 2, 5]) {
      const images = factor * 10 ** power, place = this.placeOf(images);
      if (images < end && place - found[found.length - 1][1] >= gap && last - place >= gap) found.push([images, place]);
    }
    return last ? [...found, [end, last]] : found;
  }
  makeCharts() {
    const line = (run, second, points, told) => ({ run, second, points, told, clocks: points.map(([images]) => images) });
    const both = (first, second) => this.runs.flatMap((run, i) => [first, second].flatMap((name, j) => run.series[name] ? [line(i, j === 1, run.series[name])] : []));
    const frames = (value) => this.runs.map((run) => run.images.map((images) => [images, value(run, run.images.indexOf(images))]).filter(([, y]) => y !== null));
    const wanted = [];
    const modes = this.runs.flatMap((run, i) => !run.modes.length ? [] : [
      line(i, false, run.images.map((images, k) => [images, run.hits[k].filter((hit) => hit > 0).length / run.modes.length]), (images) => `${run.frame(images).modesHit} of ${run.modes.length}`),
      line(i, true, run.images.map((images, k) => [images, run.hits[k].reduce((sum, hit) => sum + hit, 0) / run.num_fakes]), (images) => `${Math.round(100 * run.frame(images).good)} %`)]);
    if (modes.length) wanted.push({ title: "Modes hit, good points", first: "hit", second: "good", lines: modes, share: true });
    wanted.push({ title: "Losses", first: "D", second: "G", lines: both("loss/D", "loss/G") });
    wanted.push({ title: "Gradient norms", first: "D", second: "G", lines: both("grad_norm/D", "grad_norm/G"), log: true });
    const logits = [frames((run, k) => run.real_logit[k]), frames((run, k) => run.fake_logit[k])];
    wanted.push({ title: "D's mean logits", first: "real", second: "generated", lines: logits.flatMap((all, j) => all.map((points, i) => line(i, j === 1, points))) });
    const place = this.find(".g-charts");
    return wanted.filter((one) => one.lines.some((each) => each.points.length)).map((one) => new Chart(this, html("figure", { class: "g-chart" }, place), one));
  }
  readColours() {
    const style = getComputedStyle(this.root), value = (name) => style.getPropertyValue(`--g-${name}`).trim();
    this.colours = Object.fromEntries(["ink", "fake", "disc", "edge", "grid", "arrow"].map((name) => [name, value(name)]));
    this.colours.surface = { real: channels(value("real-side")), middle: channels(value("even")), fake: channels(value("fake-side")) };
  }
  // Sizes have changed, or are known for the first time.
  measure() {
    for (const stage of this.stages) stage.resize();
    for (const chart of this.charts) chart.draw();
    const axis = this.find(".g-axis"), last = Math.max(1, this.clocks.length - 1);
    const left = (place) => `calc(${THUMB / 2}px + ${(place / last).toFixed(4)} * (100% - ${THUMB}px))`;
    axis.replaceChildren();
    for (const [images, place] of this.ticks(axis.getBoundingClientRect().width / 70)) html("span", { style: `left: ${left(place)}` }, axis, shortImages(images));
    this.drawMarks(left);
    this.show();
  }
  drawMarks(left) {
    const row = this.find(".g-marks"), glyphs = { warn: "▲", failing: "◆", ok: "○", rollback: "↩" };
    row.replaceChildren();
    this.root.classList.toggle("g-with-marks", this.marks.length > 0);
    for (const mark of this.marks) {
      const text = `${this.runs.length > 1 ? `${this.runs[mark.run].name}: ` : ""}${mark.sentinel} ${mark.state === mark.sentinel ? "" : mark.state} at ${count(mark.images)} images${mark.reason ? `: ${mark.reason}` : ""}`;
      const button = html("button", { type: "button", class: mark.state, style: `left: ${left(mark.place)}`, title: text, "aria-label": text }, row, glyphs[mark.state] ?? "▲");
      button.addEventListener("click", () => this.seek(Math.ceil(mark.place)));
    }
  }

  listen() {
    const on = (selector, kind, work) => this.find(selector).addEventListener(kind, work);
    on("input[type=range]", "input", () => this.seek(Number(this.slider.value)));
    on(".g-play", "click", () => this.toggle());
    on(".g-earlier", "click", () => this.seek(this.place - 1));
    on(".g-later", "click", () => this.seek(this.place + 1));
    on(".g-speed select", "change", () => { if (this.playing) this.run(); });
    for (const button of this.root.querySelectorAll("[data-layer]")) button.addEventListener("click", () => this.switch(button));
    const keys = this.root.dataset.keys === "page" ? document : this.root;
    keys.addEventListener("keydown", (event) => this.key(event));
    // Lines of text that break change the height alone.
    let width = 0;
    new ResizeObserver(() => { if (width !== this.root.clientWidth) { width = this.root.clientWidth; this.measure(); } }).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.readColours(); this.show(); });
    this.calm.addEventListener("change", () => { if (this.playing) this.run(); });
  }
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const name = event.target.tagName, at = this.place;
    if (name === "SELECT" || name === "TEXTAREA" || (name === "INPUT" && event.target !== this.slider)) return;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: this.clocks.length - 1 };
    if (event.key in moves && !event.shiftKey) this.seek(moves[event.key]);
    else if (event.key === " " && name !== "BUTTON" && name !== "SUMMARY") this.toggle();
    else if (/^[1-9]$/.test(event.key) && this.root.querySelectorAll("[data-layer]")[event.key - 1]) this.switch(this.root.querySelectorAll("[data-layer]")[event.key - 1]);
    else return;
    event.preventDefault();
  }
  switch(button) {
    const shown = this.layers[button.dataset.layer] = !this.layers[button.dataset.layer];
    button.setAttribute("aria-pressed", shown);
    this.show();
  }
  toggle() {
    if (this.playing) return this.stop();
    if (this.place === this.clocks.length - 1) this.place = 0;
    this.run();
    this.show();
  }
  run() {
    clearInterval(this.playing);
    const rate = FRAMES_PER_SECOND * Number(this.find(".g-speed select").value);
    this.playing = setInterval(() => {
      this.place = Math.min(this.place + 1, this.clocks.length - 1);
      if (this.place === this.clocks.length - 1) this.stop(); else this.show();
    }, 1000 / (this.calm.matches ? Math.min(rate, CALM_FRAMES_PER_SECOND) : rate));
    this.find(".g-play").textContent = "❚❚ Pause";
  }
  stop() {
    clearInterval(this.playing);
    this.playing = 0;
    this.find(".g-play").textContent = "▶ Play";
    this.show();
  }
  seek(place) {
    this.place = Math.min(this.clocks.length - 1, Math.max(0, place));
    if (this.playing) this.stop(); else this.show();
  }
  probeAt(place) {
    this.probe = place;
    for (const stage of this.stages) stage.draw(this.clock);
  }
  say(text) { this.find("[role=status]").textContent = text; }
  show() {
    const steps = this.clock / this.runs[0].step_images, last = Math.max(1, this.clocks.length - 1);
    const text = `${count(this.clock)} images seen${this.runs.length > 1 ? "" : ` · step ${count(steps)}`}`;
    this.find(".g-images").textContent = text;
    this.find(".g-frame").textContent = `frame ${this.place + 1} of ${this.clocks.length}`;
    this.slider.value = this.place;
    this.slider.style.setProperty("--done", `calc(${THUMB / 2}px + ${this.place / last} * (100% - ${THUMB}px))`);
    this.slider.setAttribute("aria-valuetext", text);
    for (const stage of this.stages) stage.draw(this.clock);
    for (const chart of this.charts) chart.show();
    // While it plays, a voice would never catch up.
    if (!this.playing) this.say(`${text}. ${this.runs.map((run) => `${run.name}: ${run.facts(run.frame(this.clock))}`).join(". ")}.`);
  }
}

for (const root of document.querySelectorAll(".game")) new Game(root);
})();
