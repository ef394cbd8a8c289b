"use strict";

/* Densities of the priors, from their hyperparameters; null where a family has none to draw. */

report.density = (family, term, h) => {
  switch (family) {
    case "beta_binomial":
      return beta(h.alpha, h.beta);
    case "gamma_poisson":
      return gamma(h.shape, h.rate);
    case "normal":
    case "normal_known_variance":
      return normal(h.mu, h.tau);
    case "local_level": /* of the window's first day, which is today's where nothing drifts */
      return h.signal_ratio === 0 ? normal(h.mu, h.tau) : null;
    case "normal_inverse_gamma":
      return student(h.mu, Math.sqrt(h.s0_squared / h.kappa), h.d0);
    case "normal_regression":
      return normal(h[`mu[${term}]`], Math.sqrt(h[`Sigma[${term},${term}]`]));
    case "dirichlet_multinomial":
      return beta(h[`alpha[${term}]`], h.concentration - h[`alpha[${term}]`]);
    default:
      return null;
  }
};

const known = (...values) => values.every((value) => Number.isFinite(value) && value !== 0);

function beta(a, b) {
  if (!known(a, b)) return null;
  const constant = logGamma(a + b) - logGamma(a) - logGamma(b);
  return (x) =>
    x <= 0 || x >= 1 ? 0 : Math.exp(constant + (a - 1) * Math.log(x) + (b - 1) * Math.log1p(-x));
}

function gamma(shape, rate) {
  if (!known(shape, rate)) return null;
  const constant = shape * Math.log(rate) - logGamma(shape);
  return (x) => (x <= 0 ? 0 : Math.exp(constant + (shape - 1) * Math.log(x) - rate * x));
}

function normal(mu, sd) {
  if (!Number.isFinite(mu) || !known(sd)) return null;
  return (x) => Math.exp(-0.5 * ((x - mu) / sd) ** 2) / (sd * Math.sqrt(2 * Math.PI));
}

function student(mu, scale, degrees) {
  if (!Number.isFinite(mu) || !known(scale, degrees)) return null;
  const half = (degrees + 1) / 2;
  const constant = logGamma(half) - logGamma(degrees / 2) - 0.5 * Math.log(degrees * Math.PI);
  return (x) => Math.exp(constant - half * Math.log1p(((x - mu) / scale) ** 2 / degrees)) / scale;
}

/* Stirling's series at 10 or more, and the recurrence below: twelve digits. */
function logGamma(x) {
  let shift = 0;
  let z = x;
  for (; z < 10; z += 1) shift -= Math.log(z);
  const series = 1 / (12 * z) - 1 / (360 * z ** 3) + 1 / (1260 * z ** 5);
  return shift + (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series;
}
