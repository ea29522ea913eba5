// The page's own script: one slider for all that is shown over time, and charts with values under the pointer. No library.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// ---- samples -------------------------------------------------------------------------------------------------------

function lastAtOrBefore(sorted, value) {
  let low = -1, high = sorted.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle; else high = middle;
  }
  return low;
}

function samples() {
  const slider = $("clock");
  if (!slider) return;
  const clocks = [...new Set(data.strips.flatMap((strip) => strip.images))].sort((a, b) => a - b);
  const figures = [...document.querySelectorAll("[data-strip]")].map((figure) => {
    const strip = data.strips[Number(figure.dataset.strip)], element = figure.querySelector("img, iframe");
    const source = element.tagName === "IFRAME" ? "srcdoc" : "src"; // the frame's sandbox is in the markup and stays
    return {
      element, source, at: figure.querySelector(".at"), images: strip.images, sources: [...strip.sources, element[source]],
      shown: strip.images.length - 1,
    };
  });
  const show = () => {
    const clock = clocks[Number(slider.value)];
    $("clock-text").textContent = `${clock.toLocaleString("en")} images`;
    slider.setAttribute("aria-valuetext", `${clock} images seen`);
    for (const figure of figures) {
      // A run that drew nothing at this very clock shows what it had drawn last; before its first grid, that one.
      const place = Math.max(0, lastAtOrBefore(figure.images, clock));
      // The same page is not loaded again: somebody may be listening.
      if (figure.shown !== place) figure.element[figure.source] = figure.sources[place];
      figure.shown = place;
      figure.at.textContent = `at ${figure.images[place].toLocaleString("en")} images`;
    }
  };
  const move = (by) => {
    slider.value = Math.min(clocks.length - 1, Math.max(0, Number(slider.value) + by));
    show();
  };
  let playing = 0;
  const stop = () => { clearInterval(playing); playing = 0; $("play").textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(); });
  $("earlier").addEventListener("click", () => { stop(); move(-1); });
  $("later").addEventListener("click", () => { stop(); move(1); });
  $("play").addEventListener("click", () => {
    if (playing) return stop();
    if (Number(slider.value) === clocks.length - 1) slider.value = 0;
    show();
    $("play").textContent = "Pause";
    playing = setInterval(() => { move(1); if (Number(slider.value) === clocks.length - 1) stop(); }, 400);
  });
  const large = $("large");
  for (const image of document.querySelectorAll("img.grid")) {
    image.addEventListener("click", () => {
      large.firstElementChild.src = image.src;
      large.classList.toggle("plot", image.classList.contains("plot"));
      large.showModal();
    });
  }
  large.addEventListener("click", () => large.close());
  show();
}

// ---- charts --------------------------------------------------------------------------------------------------------

const HEIGHT = 210, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 22;

function svg(name, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6 && size < 1e12) return size >= 1e9 ? `${+(value / 1e9).toPrecision(4)}G` : `${+(value / 1e6).toPrecision(4)}M`;
  if (size >= 1e4) return size < 1e6 ? `${+(value / 1e3).toPrecision(4)}k` : value.toExponential(1);
  if (size !== 0 && size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return String(+value.toPrecision(4));
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(+(i * step).toPrecision(12));
  return ticks;
}

function logTicks(low, high) {
  const decades = Math.log10(high / low), ticks = [];
  const factors = decades < 1.5 ? [1, 2, 3, 5] : decades < 3 ? [1, 3] : [1];
  const every = Math.max(1, Math.ceil(decades / 6));
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    if (power % every) continue;
    for (const factor of factors) {
      const tick = +(factor * 10 ** power).toPrecision(6);
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  }
  return ticks;
}

// Exponential moving average, free of bias towards the first value.
function smoothed(values, weight) {
  let sum = 0, norm = 0;
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

class Chart {
  constructor(place, chart) {
    this.place = place;
    this.lines = chart.lines.map((line) => ({ ...line, shown: true }));
    this.smoothing = 0;
    const values = this.lines.flatMap((line) => line.y);
    const low = Math.min(...values), high = Math.max(...values);
    this.canLog = values.length > 0 && low > 0 && high > low;
    this.log = chart.log && this.canLog && high / low > 5;
    if (this.canLog) this.scaleButton();
    this.picture = svg("svg", { height: HEIGHT, role: "img", "aria-label": this.summary(chart.title) }, place);
    this.legend();
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerdown", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(place);
  }

  several() { return data.runs.length > 1; }

  // With one run, colours tell the metrics apart; with several, colours are runs and dashes metrics.
  look(line) { return this.several() ? `c${line.run} s${line.style % 4}` : `c${line.style % 8}`; }

  // The chart's title says what stands before the slash.
  label(line) {
    const alone = new Set(this.lines.map((other) => other.name)).size === 1;
    const metric = line.name.slice(line.name.indexOf("/") + 1).replaceAll("_", " ");
    if (!this.several()) return metric;
    return alone ? data.runs[line.run].name : `${data.runs[line.run].name} ${metric}`;
  }

  summary(title) {
    const last = this.lines.map((line) => `${this.label(line)} ends at ${line.y.length ? short(line.y.at(-1)) : "nothing"}`);
    return `${title}: ${last.join(", ")}`;
  }

  scaleButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "scale";
    button.textContent = "log";
    button.title = "logarithmic scale";
    button.setAttribute("aria-pressed", this.log);
    button.addEventListener("click", () => {
      this.log = !this.log;
      button.setAttribute("aria-pressed", this.log);
      this.draw();
    });
    this.place.append(button);
  }

  legend() {
    const legend = document.createElement("div");
    legend.className = "legend";
    for (const line of this.lines) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", true);
      const key = svg("svg", { height: 8, viewBox: "0 0 20 8" }, button);
      svg("path", { d: "M0 4H20", class: `line ${this.look(line)}` }, key);
      button.append(document.createTextNode(this.label(line)));
      line.value = document.createElement("b");
      button.append(line.value);
      button.title = line.total > line.y.length ? `${line.name}: ${line.y.length} of ${line.total} points, extremes kept` : line.name;
      button.addEventListener("click", () => {
        line.shown = !line.shown;
        button.setAttribute("aria-pressed", line.shown);
        this.draw();
      });
      legend.append(button);
    }
    this.place.append(legend);
  }

  scale() {
    const shown = this.lines.filter((line) => line.shown);
    const xs = shown.flatMap((line) => [...line.x, ...line.bad]), ys = shown.flatMap((line) => line.y);
    let [left, right] = [Math.min(...xs), Math.max(...xs)], [low, high] = [Math.min(...ys), Math.max(...ys)];
    if (!xs.length) [left, right] = [0, 1];
    if (!ys.length) [low, high] = [0, 1];
    if (left === right) [left, right] = [left - 1, right + 1];
    if (this.log) {
      if (low === high) [low, high] = [low / 2, high * 2];
      [low, high] = [low / 1.08, high * 1.08];
    } else {
      if (low === high) { [low, high] = low ? [low - Math.abs(low) / 10, high + Math.abs(low) / 10] : [0, 1]; }
      const pad = (high - low) * 0.05;
      // Values that are never negative keep a floor at 0.
      [low, high] = [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
    }
    const width = Math.max(120, this.picture.clientWidth);
    const x = (value) => LEFT + ((value - left) / (right - left)) * (width - LEFT - RIGHT);
    const share = this.log ? (value) => Math.log(value / low) / Math.log(high / low) : (value) => (value - low) / (high - low);
    const y = (value) => HEIGHT - BOTTOM - share(value) * (HEIGHT - TOP - BOTTOM);
    return { x, y, left, right, low, high, width };
  }

  draw() {
    const scale = this.current = this.scale();
    this.picture.replaceChildren();
    this.picture.setAttribute("viewBox", `0 0 ${scale.width} ${HEIGHT}`);
    for (const tick of this.log ? logTicks(scale.low, scale.high) : linearTicks(scale.low, scale.high, 4)) {
      const y = scale.y(tick).toFixed(1);
      svg("line", { x1: LEFT, x2: scale.width - RIGHT, y1: y, y2: y, class: "gridline" }, this.picture);
      svg("text", { x: LEFT - 6, y: +y + 4, "text-anchor": "end" }, this.picture, short(tick));
    }
    for (const tick of linearTicks(scale.left, scale.right, Math.max(3, Math.floor(scale.width / 90)))) {
      const x = scale.x(tick), anchor = x > scale.width - 25 ? "end" : "middle";
      svg("text", { x: x.toFixed(1), y: HEIGHT - 6, "text-anchor": anchor }, this.picture, short(tick));
    }
    const drawn = new Set(this.lines.filter((line) => line.shown).map((line) => line.run));
    for (const run of drawn) {
      for (const images of data.runs[run].resumes) {
        if (images < scale.left || images > scale.right) continue;
        const mark = svg("line", { x1: scale.x(images), x2: scale.x(images), y1: TOP, y2: HEIGHT - BOTTOM, class: "resume" }, this.picture);
        svg("title", {}, mark, `${data.runs[run].name} resumed at ${images}`);
      }
    }
    for (const line of this.lines) {
      line.value.textContent = line.y.length ? short(line.y.at(-1)) : "";
      if (line.shown) this.stroke(line, scale);
    }
    this.overlay = svg("g", {}, this.picture);
  }

  stroke(line, scale) {
    const path = (values) => values.map((value, i) => `${i ? "L" : "M"}${scale.x(line.x[i]).toFixed(1)} ${scale.y(value).toFixed(1)}`).join("");
    if (this.smoothing) svg("path", { d: path(line.y), class: `line faint ${this.look(line)}` }, this.picture);
    svg("path", { d: path(this.smoothing ? smoothed(line.y, this.smoothing) : line.y), class: `line ${this.look(line)}` }, this.picture);
    if (line.y.length < 3) {
      line.y.forEach((value, i) => svg("circle", { cx: scale.x(line.x[i]), cy: scale.y(value), r: 3, class: `dot ${this.look(line)}` }, this.picture));
    }
    for (const images of line.bad) {
      const mark = svg("path", { d: `M${scale.x(images) - 3} ${HEIGHT - BOTTOM - 6}l6 6m0 -6l-6 6`, class: "badmark" }, this.picture);
      svg("title", {}, mark, `${line.name} is not a finite number at ${images} images`);
    }
  }

  point(event) {
    const box = this.picture.getBoundingClientRect(), scale = this.current;
    const share = ((event.clientX - box.left) * (scale.width / box.width) - LEFT) / (scale.width - LEFT - RIGHT);
    const wanted = scale.left + Math.min(1, Math.max(0, share)) * (scale.right - scale.left);
    let nearest = null;
    for (const line of this.lines) {
      if (!line.shown) continue;
      for (const images of line.x) if (nearest === null || Math.abs(images - wanted) < Math.abs(nearest - wanted)) nearest = images;
    }
    if (nearest === null) return;
    this.overlay.replaceChildren();
    const x = scale.x(nearest), late = x > scale.width / 2;
    svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM, class: "guide" }, this.overlay);
    svg("text", { x: x + (late ? -5 : 5), y: TOP + 9, "text-anchor": late ? "end" : "start" }, this.overlay, `${nearest.toLocaleString("en")} images`);
    for (const line of this.lines) {
      const place = lastAtOrBefore(line.x, nearest);
      line.value.textContent = place < 0 ? "–" : short(line.y[place]);
      if (line.shown && place >= 0) svg("circle", { cx: scale.x(line.x[place]), cy: scale.y(line.y[place]), r: 3, class: `dot ${this.look(line)}` }, this.overlay);
    }
  }
}

samples();
const charts = [...document.querySelectorAll("[data-chart]")].map((place) => new Chart(place, data.charts[Number(place.dataset.chart)]));
$("smoothing")?.addEventListener("change", (event) => {
  for (const chart of charts) {
    chart.smoothing = Number(event.target.value);
    chart.draw();
  }
});
// Paper has another width than the window.
window.addEventListener("beforeprint", () => charts.forEach((chart) => chart.draw()));
document.documentElement.dataset.ready = charts.length;
