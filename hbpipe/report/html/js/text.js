"use strict";

/* Elements, names and numbers as text. Whatever a store is called, it is only ever text. */

report.element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

/* Letters that are not seen, or that turn the text around them, are spelt out. */
const UNSEEN = /[\p{Cc}\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

report.visible = (name) =>
  name === null
    ? "(none)"
    : name === ""
      ? "(empty)"
      : name.replace(UNSEEN, (letter) => {
          const code = letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
          return `‹U+${code}›`;
        });

/* A name in a sentence or a cell: its direction stays its own. */
report.name = (name, tag = "bdi") =>
  report.element(tag, { title: report.visible(name), class: "name" }, report.visible(name));

/* A name in a drawing, where there is no element around it. */
report.short = (name, letters = 26) => {
  const shown = [...report.visible(name)];
  const cut = shown.length > letters ? [...shown.slice(0, letters - 1), "…"] : shown;
  return `\u2068${cut.join("")}\u2069`;
};

const formats = (options) =>
  [1, 2, 3, 4].map((digits) => new Intl.NumberFormat("en", options(digits)));
const rounded = formats((digits) => ({ maximumSignificantDigits: digits }));
/* With zeros to the end, for numbers that stand below each other. */
const aligned = formats((digits) => ({
  maximumSignificantDigits: digits,
  minimumSignificantDigits: digits,
}));
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

report.count = (value) => whole.format(value);

report.number = (value, digits = 4, format = rounded) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return value.toExponential(Math.min(digits, 3) - 1);
  if (size >= 10 ** digits) return whole.format(value);
  return (value === 0 ? rounded : format)[digits - 1].format(value);
};

report.share = (value, digits = 2, format = rounded) =>
  Number.isFinite(value) ? `${report.number(100 * value, digits, format)}\u00a0%` : "–";

/* A probability of two digits: more of them would say nothing. */
report.probability = (value) => {
  if (value >= 0.995) return ">\u00a099\u00a0%";
  return value < 0.001 ? "<\u00a00.1\u00a0%" : report.share(value);
};

/* A value of a metric: a rate in per cent, any other as it is. */
report.valueOf = (metric, digits = 4, format = rounded) =>
  metric.family === "beta_binomial"
    ? (value) => report.share(value, digits, format)
    : (value) => report.number(value, digits, format);
report.alignedOf = (metric) => report.valueOf(metric, 4, aligned);

report.plural = (count, noun, nouns = `${noun}s`) =>
  `${report.count(count)} ${count === 1 ? noun : nouns}`;

report.day = (iso) =>
  new Date(`${iso}T00:00:00Z`).toLocaleDateString("en-GB", {
    weekday: "long",
    day: "numeric",
    month: "long",
    year: "numeric",
    timeZone: "UTC",
  });

/* What is measured, as a label of an axis. */
report.label = (metric, term) => {
  const of = term === "theta" ? metric.name : `${term} of ${metric.name}`;
  return metric.transform ? `${of}, ${metric.transform}` : of;
};

report.status = (status) => {
  const signs = { pass: "✓", ok: "✓", warn: "!", fail: "✗", accepted: "✗" };
  return report.element(
    "span",
    { class: `status ${status}` },
    report.element("span", { "aria-hidden": "true" }, signs[status] ?? "·"),
    ` ${report.visible(status.replaceAll("_", " "))}`,
  );
};
