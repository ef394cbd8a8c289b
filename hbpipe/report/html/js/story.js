"use strict";

/* One store in words, for every metric: what it observed, what its chain believes, the result. */

const FLAG_WORDS = {
  silent: "No observations in the window.",
  is_new: "New.",
  outlier: "An outlier: its observations are not what the prior expects.",
  at_boundary: "The prior of its chain lies at a bound.",
};

const SAID = [
  [
    "p_below_target",
    (value, { metric }) =>
      `below the target ${report.valueOf(metric)(metric.target)} with probability ${report.probability(value)}`,
  ],
  ["p_above_zero", (value) => `an effect above 0 with probability ${report.probability(value)}`],
  [
    "expected_percentile",
    (value) => `expected percentile ${report.number(100 * value, 2)} among the stores of its chain`,
  ],
  ["p_top_10", (value) => `among the highest tenth with probability ${report.probability(value)}`],
  [
    "p_bottom_10",
    (value) => `among the lowest tenth with probability ${report.probability(value)}`,
  ],
  ["s_value", (value) => `s-value ${report.number(value, 2)} against the mean of its chain`],
  [
    "last_day_q",
    (value) => `last day: adjusted p-value ${report.number(value, 2)} under the days before`,
  ],
  [
    "change_sd",
    (value) => `${report.number(value, 2)} standard deviations from the release before`,
  ],
];

report.flagsOf = (sheet, row) =>
  report.facts.flags.filter((_, bit) => (sheet.flags[row] >> bit) & 1);

report.tellStore = (unit, { sheets, units }) => {
  const dialog = document.getElementById("story");
  const found = sheets.flatMap((sheet) => {
    const row = sheet.unit.indexOf(unit);
    return row < 0 ? [] : [{ sheet, row }];
  });
  const levels = units.levels
    .slice(0, -1)
    .map((level, k) => [
      element("dt", {}, level.name),
      element("dd", {}, report.name(units.nameAt(k, unit))),
    ]);
  const close = element(
    "button",
    { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() },
    "×",
  );
  dialog.replaceChildren(
    close,
    element("h2", { id: "story-title" }, report.name(units.name(unit))),
    element("dl", { class: "levels" }, levels.flat()),
    ...found.map(tellMetric),
  );
  dialog.showModal();
};

function tellMetric({ sheet, row }) {
  const metric = report.facts.metrics.find((one) => one.name === sheet.metric);
  const format = report.valueOf(metric);
  const at = (name) => sheet[name]?.[row] ?? NaN;
  const said = SAID.filter(([name]) => Number.isFinite(at(name))).map(([name, say]) =>
    element("li", {}, say(at(name), { metric })),
  );
  return element(
    "article",
    {},
    element("h3", {}, report.visible(report.label(metric, sheet.term))),
    element(
      "p",
      { class: "figure" },
      element("b", {}, format(at("mean"))),
      interval(format, at),
      amount(metric, at("mean")),
    ),
    element("p", {}, weighed(format, at)),
    said.length ? element("ul", {}, said) : null,
    ...report
      .flagsOf(sheet, row)
      .map((flag) => element("p", { class: "flag" }, FLAG_WORDS[flag] ?? flag)),
  );
}

function interval(format, at) {
  if (!Number.isFinite(at("low"))) return "";
  return ` ${format(at("low"))} to ${format(at("high"))}, ${report.certainty()}`;
}

/* A mean of logarithms, as an amount. */
function amount(metric, mean) {
  if (metric.transform !== "log" || !Number.isFinite(mean)) return "";
  return `; as an amount ${report.number(Math.exp(mean))}`;
}

function weighed(format, at) {
  if (!Number.isFinite(at("mean")) && !Number.isFinite(at("low")))
    return "No estimate: these data determine no prior of its chain.";
  if (at("n") === 0) return "It was not observed, so this is what its chain believes.";
  const observed = Number.isFinite(at("raw"))
    ? `It was observed at ${format(at("raw"))} over ${report.count(at("n"))}`
    : `Its own ${report.plural(at("n"), "observation")} do not determine it`;
  if (!Number.isFinite(at("weight"))) return `${observed}.`;
  return `${observed}; its own observations weigh ${report.share(at("weight"))}, its chain the rest.`;
}
