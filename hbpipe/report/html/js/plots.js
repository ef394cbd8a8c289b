"use strict";

/* The drawings, each an SVG of Observable Plot's. Colours are those of the style sheet, so that
   they follow it into the dark and onto paper. */

const ink = { raw: "var(--raw)", posterior: "var(--posterior)", prior: "var(--ink)" };
const faint = "var(--muted)";

function drawn(description, options) {
  const style = { background: "none", overflow: "visible", fontSize: "12px" };
  const plot = Plot.plot({ className: "plot", ariaLabel: description, style, ...options });
  plot.setAttribute("role", "img");
  return plot;
}

/* So many stores are drawn: all of a chain, or those that moved furthest and an even choice. */
const MOST_DRAWN = 1200;

report.chosen = (stores) => {
  if (stores.length <= MOST_DRAWN) return stores;
  const moved = (store) => (Number.isFinite(store.raw) ? Math.abs(store.raw - store.mean) : 0);
  const furthest = d3.sort(stores, (store) => -moved(store)).slice(0, MOST_DRAWN / 4);
  const kept = new Set(furthest);
  const rest = d3.sort(
    stores.filter((store) => !kept.has(store)),
    (store) => store.n,
  );
  const step = rest.length / (MOST_DRAWN - kept.size);
  for (let at = 0; at < rest.length; at += step) kept.add(rest[Math.floor(at)]);
  return stores.filter((store) => kept.has(store));
};

/* Raw estimates, posterior means, and the way between, by the number of observations. */
report.drawShrinkage = (stores, { width, label, priorMean, format, unit }) => {
  const seen = report.chosen(stores.filter((store) => store.n > 0 && Number.isFinite(store.raw)));
  const place = { x: "n", channels: { unit: (store) => report.short(store.name) } };
  const title = (store) =>
    `${report.short(store.name)}\nn ${report.count(store.n)}\nraw ${format(store.raw)}\n` +
    `mean ${format(store.mean)}\n${format(store.low)} to ${format(store.high)}`;
  return drawn(`Shrinkage of ${seen.length} stores: raw estimate to posterior mean, by n`, {
    width,
    height: Math.max(280, Math.min(420, width * 0.56)),
    marginLeft: 52,
    marginBottom: 38,
    insetLeft: 8,
    x: {
      type: sizeScale(seen),
      label: `n, the observations of a ${unit}`,
      labelArrow: "none",
      ticks: 5,
      tickFormat: ",d",
    },
    y: { label, labelArrow: "none", grid: true, tickFormat: format, ticks: 6, nice: true },
    marks: [
      Plot.link(seen, {
        x: "n",
        y1: "raw",
        y2: "mean",
        stroke: faint,
        strokeOpacity: seen.length > 400 ? 0.25 : 0.45,
        strokeWidth: 0.9,
      }),
      Plot.ruleY([priorMean].filter(Number.isFinite), {
        stroke: ink.prior,
        strokeDasharray: "5,4",
        strokeWidth: 1.2,
      }),
      Plot.dot(seen, { ...place, y: "raw", r: 2.6, stroke: ink.raw, strokeWidth: 1.1 }),
      Plot.dot(seen, { ...place, y: "mean", r: 2.4, fill: ink.posterior, fillOpacity: 0.85 }),
      Plot.tip(seen, Plot.pointer({ x: "n", y: "mean", title, maxRadius: 24 })),
    ],
  });
};

/* Sizes that are much alike have no powers of ten to show. */
function sizeScale(stores) {
  const [least, most] = d3.extent(stores, (store) => store.n);
  return most > 4 * least ? "log" : "linear";
}

/* How raw estimates, posterior means and the prior are spread. */
report.drawPrior = (stores, { width, label, density, format }) => {
  const raw = stores.map((store) => store.raw).filter(Number.isFinite);
  const mean = stores.map((store) => store.mean).filter(Number.isFinite);
  const [low, high] = spread(raw, mean);
  const bins = (values) => histogram(values, low, high, Math.round(3 * Math.cbrt(raw.length)));
  const inside = d3.range(201).map((k) => low + ((high - low) * k) / 200);
  const curve = density === null ? [] : inside.map((x) => ({ x, y: density(x) }));
  // A prior may be infinite at an end, and a few stores far out: bars decide how high it is drawn.
  const top = 1.6 * Math.max(...[...bins(raw), ...bins(mean)].map((bin) => bin.y));
  const bar = { x1: "x1", x2: "x2", y: "y", inset: 0 };
  return drawn(`The prior beside ${raw.length} raw estimates and their posterior means`, {
    width,
    height: 280,
    marginLeft: 12,
    marginRight: 12,
    marginBottom: 38,
    x: { label, labelArrow: "none", tickFormat: format, ticks: 5, domain: [low, high] },
    y: {
      axis: null,
      domain: [
        0,
        Math.min(
          top,
          d3.max([...curve, ...bins(raw), ...bins(mean)], (d) => d.y),
        ),
      ],
      clamp: true,
    },
    marks: [
      Plot.rectY(bins(mean), { ...bar, fill: ink.posterior, fillOpacity: 0.35 }),
      Plot.rectY(bins(raw), { ...bar, fill: "none", stroke: ink.raw, strokeWidth: 1.1 }),
      Plot.line(curve, { x: "x", y: "y", stroke: ink.prior, strokeWidth: 2 }),
      Plot.ruleY([0], { stroke: faint }),
    ],
  });
};

function spread(raw, mean) {
  const sorted = d3.sort(raw);
  const ends = [d3.quantileSorted(sorted, 0.01), d3.quantileSorted(sorted, 0.99)];
  const [low, high] = d3.extent([...ends.filter(Number.isFinite), ...mean]);
  const margin = high > low ? 0.02 * (high - low) : Math.abs(low) || 1;
  return [low >= 0 && low - margin < 0 ? 0 : low - margin, high + margin];
}

function histogram(values, low, high, about) {
  const count = Math.max(8, Math.min(40, about));
  const edges = d3.range(count + 1).map((k) => low + ((high - low) * k) / count);
  const inside = values.filter((value) => value >= low && value <= high);
  const width = edges[1] - edges[0];
  return d3
    .bin()
    .domain([low, high])
    .thresholds(edges)(inside)
    .filter((bin) => bin.x1 > bin.x0)
    .map((bin) => ({ x1: bin.x0, x2: bin.x1, y: bin.length / (values.length * width) }));
}

/* Intervals of a few stores, one below the other. */
report.drawStores = (stores, { width, label, priorMean, format, title }) =>
  drawn(`${title}: posterior means with intervals`, {
    width,
    height: 24 * stores.length + 50,
    marginLeft: Math.min(170, width * 0.36),
    marginRight: 16,
    marginTop: 8,
    marginBottom: 38,
    x: { label, labelArrow: "none", tickFormat: format, ticks: 4, grid: true },
    y: {
      type: "band",
      label: null,
      domain: d3.range(stores.length),
      tickFormat: (k) => report.short(stores[k].name, 20),
      tickSize: 0,
    },
    marks: [
      Plot.ruleX([priorMean].filter(Number.isFinite), {
        stroke: ink.prior,
        strokeDasharray: "5,4",
        strokeWidth: 1.2,
      }),
      Plot.link(stores, {
        x1: "low",
        x2: "high",
        y1: (_, k) => k,
        y2: (_, k) => k,
        stroke: ink.posterior,
        strokeWidth: 5,
        strokeOpacity: 0.38,
        strokeLinecap: "round",
      }),
      Plot.dot(stores, { x: "raw", y: (_, k) => k, r: 3.4, stroke: ink.raw, strokeWidth: 1.4 }),
      Plot.dot(stores, { x: "mean", y: (_, k) => k, r: 3.8, fill: ink.posterior }),
    ],
  });

/* One hyperparameter over nights, with twice its sd. */
report.drawDrift = ({ parameter, nights }, width) => {
  const band = nights.filter((night) => Number.isFinite(night.sd));
  return drawn(`${parameter} over ${nights.length} nights`, {
    width,
    height: 140,
    marginLeft: 44,
    marginRight: 8,
    marginTop: 12,
    marginBottom: 30,
    x: { type: "utc", label: null, ticks: width < 220 ? 2 : 4 },
    y: {
      label: null,
      grid: true,
      ticks: 4,
      tickFormat: (value) => report.number(value, 3),
      nice: true,
    },
    marks: [
      Plot.areaY(band, {
        x: "day",
        y1: (night) => night.value - 2 * night.sd,
        y2: (night) => night.value + 2 * night.sd,
        fill: ink.posterior,
        fillOpacity: 0.16,
      }),
      Plot.lineY(nights, { x: "day", y: "value", stroke: ink.posterior, strokeWidth: 1.8 }),
      Plot.dot(nights.slice(-1), { x: "day", y: "value", fill: ink.posterior, r: 3.5 }),
    ],
  });
};

const ofCheck = (width) => ({
  width,
  height: 190,
  marginLeft: 40,
  marginRight: 8,
  marginBottom: 38,
});

/* The histogram of PIT: as high everywhere where the model fits. */
report.drawPit = (heights, width) => {
  const bars = heights.map((height, k) => ({
    height,
    from: k / heights.length,
    to: (k + 1) / heights.length,
  }));
  return drawn(`Histogram of PIT in ${heights.length} bins`, {
    ...ofCheck(width),
    x: {
      label: "where a store falls in what the others predict",
      labelArrow: "none",
      domain: [0, 1],
      ticks: 5,
    },
    y: { label: null, grid: true, ticks: 4, zero: true },
    marks: [
      Plot.rectY(bars, {
        x1: "from",
        x2: "to",
        y: "height",
        inset: 1,
        fill: ink.posterior,
        fillOpacity: 0.45,
      }),
      Plot.ruleY([d3.mean(heights)], {
        stroke: ink.prior,
        strokeDasharray: "5,4",
        strokeWidth: 1.2,
      }),
      Plot.ruleY([0], { stroke: faint }),
    ],
  });
};

/* So many stores should be inside: calibration is about the 80 % interval. */
const COVERAGE = 0.8;

report.drawCalibration = (shares, width) =>
  drawn(`Coverage by ${shares.length} classes of size`, {
    ...ofCheck(width),
    x: {
      label: "classes of stores, few observations to many",
      labelArrow: "none",
      domain: [0.5, shares.length + 0.5],
      ticks: d3.range(1, shares.length + 1),
      tickFormat: "d",
    },
    y: {
      label: null,
      grid: true,
      ticks: 4,
      domain: [Math.min(0.6, d3.min(shares)), 1],
      tickFormat: (share) => report.share(share),
    },
    marks: [
      Plot.ruleY([COVERAGE], { stroke: ink.prior, strokeDasharray: "5,4", strokeWidth: 1.2 }),
      Plot.line(shares, {
        x: (_, k) => k + 1,
        y: (share) => share,
        stroke: ink.posterior,
        strokeOpacity: 0.5,
      }),
      Plot.dot(shares, { x: (_, k) => k + 1, y: (share) => share, fill: ink.posterior, r: 4 }),
    ],
  });

/* The rows of each day of the window, by what became of them. */
report.drawDays = (days, width) => {
  const kinds = ["accepted", "repeated", "rejected"];
  const stacked = days.flatMap((day) =>
    kinds.map((kind) => ({ kind, rows: day[kind] ?? 0, day: new Date(`${day.day}T00:00:00Z`) })),
  );
  return drawn(`Rows of ${days.length} days`, {
    width,
    height: 170,
    marginLeft: 48,
    marginRight: 8,
    marginBottom: 26,
    x: { type: "utc", label: null, ticks: Math.max(3, Math.floor(width / 110)) },
    y: { label: null, grid: true, ticks: 4, tickFormat: "~s" },
    color: { domain: kinds, range: ["var(--posterior)", "var(--muted)", "var(--raw)"] },
    marks: [
      Plot.rectY(stacked, {
        x: "day",
        y: "rows",
        fill: "kind",
        interval: d3.utcDay,
        inset: 0.5,
        fillOpacity: 0.75,
      }),
      Plot.ruleY([0], { stroke: faint }),
    ],
  });
};
