"use strict";

/* One metric of one chain: what its prior is, how its stores shrink to it, who stands out. */

const METHODS = {
  plug_in: "taken as known",
  first_order: "its uncertainty carried to first order",
  integrated: "its uncertainty integrated out",
};
/* What one word of a family calls its prior. */
const FAMILIES = {
  beta_binomial: "Beta",
  gamma_poisson: "Gamma",
  normal: "Normal",
  normal_known_variance: "Normal",
  normal_inverse_gamma: "Normal, with a variance of its own for each store",
  local_level: "Normal, with levels that may drift",
  normal_regression: "Normal, jointly for all coefficients",
  dirichlet_multinomial: "Dirichlet",
  hurdle_lognormal: "Beta for who buys, Normal for the logarithm of what they pay",
};
const EXTREMES = 8;

report.storesOf = (sheet, pool, units) =>
  report.rowsOf(sheet, pool).map((row) => ({
    row,
    unit: sheet.unit[row],
    name: units.name(sheet.unit[row]),
    n: sheet.n[row],
    raw: sheet.raw?.[row] ?? NaN,
    mean: sheet.mean?.[row] ?? NaN,
    low: sheet.low?.[row] ?? NaN,
    high: sheet.high?.[row] ?? NaN,
    rank: sheet.expected_percentile?.[row] ?? sheet.mean?.[row] ?? NaN,
  }));

report.showChain = (view) => {
  const { metric, sheet, pool, units, width } = view;
  const stores = report.storesOf(sheet, pool, units);
  const section = document.getElementById("chain");
  const drawing = {
    label: report.label(metric, sheet.term),
    priorMean: newStore(view)?.mean ?? NaN,
    format: report.valueOf(metric),
    unit: units.levels.at(-1).name,
  };
  const ticks = { ...drawing, format: report.valueOf(metric, 3) };
  section.replaceChildren(
    element(
      "h2",
      { id: "chain-title" },
      report.visible(drawing.label),
      element("span", { class: "in" }, " in "),
      report.name(report.facts.pools[pool]),
    ),
    beliefs(view),
    element(
      "div",
      { class: "pair" },
      shrinkage(stores, ticks, view),
      spreadOf(stores, ticks, view),
    ),
    extremes(stores, ticks, width),
    ...drift(view),
    fitNumbers(fitOf(view)),
  );
};

function newStore({ metric, sheet, pool }) {
  return report.facts.new_stores.find(
    (one) => one.metric === metric.name && one.term === sheet.term && one.pool === pool,
  );
}

function fitOf({ metric, pool }) {
  return report.facts.fits.find((fit) => fit.metric === metric.name && fit.pool === pool);
}

/* The prior in words. */
function beliefs(view) {
  const [fit, expected] = [fitOf(view), newStore(view)];
  const format = report.valueOf(view.metric, 3);
  const said = [
    `The prior is ${FAMILIES[fit.family] ?? fit.family}, estimated from ${report.plural(fit.n_groups ?? 0, "store")}`,
    fit.method in METHODS ? `, ${METHODS[fit.method]}. ` : ". ",
  ];
  if (fit.status !== "ok")
    said.push(
      "How it ended: ",
      element("b", {}, report.visible(fit.status.replaceAll("_", " "))),
      ". ",
    );
  if (Number.isFinite(expected?.mean)) {
    said.push("A store never seen is expected at ", element("b", {}, format(expected.mean)));
    const [low, high] = [expected.low, expected.high];
    if (Number.isFinite(low))
      said.push(`, between ${format(low)} and ${format(high)} (${certainty()}). `);
    else said.push(". ");
  } else if (Number.isFinite(expected?.low)) {
    said.push(
      `A store never seen lies between ${format(expected.low)} and ${format(expected.high)} (${certainty()}); it has no mean. `,
    );
  }
  if (fit.at_bound) said.push(`At a bound: ${fit.at_bound}. `);
  if (view.metric.made_of)
    said.push(element("span", { class: "quiet" }, `${report.visible(view.metric.made_of)}.`));
  return element("p", { class: "lead" }, said);
}

function certainty() {
  const [low, high] = report.facts.limits;
  return `${report.number(100 * (high - low), 4)}\u00a0% probability`;
}
report.certainty = certainty;

function shrinkage(stores, drawing, view) {
  const plot = report.drawShrinkage(stores, { ...drawing, width: wide(view.width) });
  // The store under the pointer; with the keyboard the table tells the same.
  plot.addEventListener("click", () => plot.value && report.tellStore(plot.value.unit, view));
  const silent = stores.filter((store) => store.n === 0).length;
  const seen = stores.length - silent;
  const drawn = Math.min(seen, report.chosen(stores).length);
  return element(
    "figure",
    {},
    element(
      "figcaption",
      {},
      element("b", {}, "Shrinkage. "),
      report.legend([
        ["raw", "raw hollow"],
        ["posterior mean", "posterior"],
        ["prior mean", "prior"],
      ]),
      element(
        "span",
        { class: "quiet" },
        drawn < seen
          ? ` ${report.count(drawn)} of ${report.count(seen)} stores: those that moved furthest, and an even choice.`
          : "",
        silent ? ` ${report.plural(silent, "store")} without observations: at the prior.` : "",
      ),
    ),
    plot,
  );
}

function spreadOf(stores, drawing, view) {
  const values = Object.fromEntries(
    view.history
      .filter((one) => one.metric === view.metric.name && one.pool === view.pool)
      .map((one) => [one.parameter, one.nights.at(-1)?.value]),
  );
  const density = report.density(view.metric.family, view.sheet.term, values);
  return element(
    "figure",
    {},
    element(
      "figcaption",
      {},
      element("b", {}, "Prior beside observed. "),
      report.legend([
        ["raw", "raw hollow"],
        ["posterior means", "posterior"],
        ...(density ? [["prior", "prior solid"]] : []),
      ]),
      element("span", { class: "quiet" }, " Raw estimates scatter more than stores do."),
    ),
    report.drawPrior(stores, { ...drawing, density, width: narrow(view.width) }),
  );
}

/* Two thirds and one third on a wide page, everything on a narrow one. */
const wide = (width) => (width < 820 ? width : Math.round(width * 0.62));
const narrow = (width) => (width < 820 ? width : width - wide(width) - 32);
const half = (width) => (width < 820 ? width : Math.round((width - 32) / 2));

function extremes(stores, drawing, width) {
  const ranked = d3.sort(
    stores.filter((store) => store.n > 0 && Number.isFinite(store.mean)),
    (store) => -store.rank,
  );
  const count = Math.min(EXTREMES, Math.ceil(ranked.length / 2));
  const column = (title, chosen) =>
    element(
      "figure",
      {},
      element(
        "figcaption",
        {},
        element("b", {}, `${title}. `),
        element("span", { class: "quiet" }, `Bars hold the store with ${certainty()}.`),
      ),
      report.drawStores(chosen, { ...drawing, title, width: half(width) }),
    );
  if (!count) return element("p", {}, "No store has observations.");
  return element(
    "div",
    { class: "pair even" },
    column("Highest", ranked.slice(0, count)),
    column("Lowest", ranked.slice(-count).reverse()),
  );
}

const MOST_PARAMETERS = 8;

function drift(view) {
  const own = view.history.filter(
    (one) => one.metric === view.metric.name && one.pool === view.pool,
  );
  const shown = own.filter((one) => one.nights.length).slice(0, MOST_PARAMETERS);
  if (!shown.length) return [];
  const nights = d3.max(shown, (one) => one.nights.length);
  const heading = element("h3", {}, "Drift of the hyperparameters");
  if (nights < 2)
    return [
      heading,
      element("p", { class: "lead" }, "The first night: there is none before it."),
      values(own),
    ];
  const columns = view.width < 820 ? 2 : 4;
  const width = Math.floor((view.width - 16 * (columns - 1)) / columns);
  return [
    heading,
    element(
      "div",
      { class: "small-plots" },
      shown.map((one) =>
        element(
          "figure",
          {},
          element(
            "figcaption",
            {},
            element("b", {}, report.visible(one.parameter)),
            ` ${report.number(one.nights.at(-1).value)}`,
          ),
          report.drawDrift(one, width),
        ),
      ),
    ),
    element(
      "p",
      { class: "quiet" },
      `${nights} nights; bands are two standard deviations of the estimate.`,
    ),
  ];
}

const OF_A_FIT = [
  ["estimator", "estimator"],
  ["log marginal likelihood", "log_marginal_likelihood"],
  ["without pooling", "log_likelihood_no_pooling"],
  ["with complete pooling", "log_likelihood_complete_pooling"],
  ["iterations", "iterations"],
  ["drift since the night before", "drift"],
  ["overdispersion", "overdispersion"],
  ["sampler", "sampler"],
  ["effective draws", "ess"],
  ["Pareto k", "pareto_k"],
  ["R-hat", "r_hat"],
];

function fitNumbers(fit) {
  const told = OF_A_FIT.filter(([, name]) => fit[name] !== null && fit[name] !== "");
  const text = (value) =>
    typeof value === "number" ? report.number(value) : report.visible(value);
  return element(
    "details",
    {},
    element("summary", {}, "The fit in numbers"),
    element(
      "dl",
      { class: "terms close" },
      told.flatMap(([title, name]) => [
        element("dt", {}, title),
        element("dd", {}, text(fit[name])),
      ]),
    ),
  );
}

function values(own) {
  const told = own.filter((one) => one.nights.length);
  const entries = told.map((one) =>
    element(
      "li",
      {},
      `${report.visible(one.parameter)} `,
      element("b", {}, report.number(one.nights.at(-1).value)),
    ),
  );
  return element("ul", { class: "values" }, entries);
}
