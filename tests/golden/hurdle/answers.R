# Own brute force for `hurdle_lognormal`, in R 4 without packages: Rscript answers.R > truth.json
# It reads data.csv: visits, purchases, and mean and centred squares of the log amounts of 12 stores.
d <- read.csv("data.csv"); y <- d$successes; n <- d$trials; x <- d$mean; s <- d$m2; J <- nrow(d)

# --- the fit: both likelihoods maximised by themselves --------------------------------------------
conversion <- function(l, M) {
  a <- M * plogis(l); b <- M * plogis(-l)
  sum(lchoose(n, y) + lbeta(a + y, b + n - y) - lbeta(a, b))
}
u <- y > 0
basket <- function(mu, tau2, sigma2) {
  v <- sigma2 + y[u] * tau2
  -0.5 * sum(y[u] * log(2 * pi) + (y[u] - 1) * log(sigma2) + s[u] / sigma2 + log(v) +
             y[u] * (x[u] - mu)^2 / v)
}
climb <- function(f, at) {
  for (k in 1:6) at <- optim(at, function(t) -f(t), control = list(reltol = 1e-16, maxit = 5000))$par
  at
}
c1 <- climb(function(t) conversion(t[1], exp(t[2])), c(qlogis(sum(y) / sum(n)), 4))
c2 <- climb(function(t) basket(t[1], exp(2 * t[2]), exp(2 * t[3])), c(mean(x[u]), -1, 0))

# --- full Bayes under the default hyperpriors: fine grids, then simulation ------------------------
lower_median <- function(v) sort(v[v > 0])[(sum(v > 0) + 1) %/% 2]
cells <- function(f, first, second) {
  g <- expand.grid(first, second); g$w <- mapply(f, g[, 1], g[, 2]); g$w <- exp(g$w - max(g$w)); g
}
draw <- function(g, first, second, size) {
  k <- sample(nrow(g), size, TRUE, g$w)
  cbind(g[k, 1] + (runif(size) - 0.5) * diff(first)[1], g[k, 2] + (runif(size) - 0.5) * diff(second)[1])
}
# Conversion: mean ~ Beta(1/2, 1/2), p(A) = c/(c + A)^2 for A = 1/concentration.
ca <- 10 / lower_median(n)
first <- seq(-6, 0.5, length.out = 500); second <- seq(-14, 5, length.out = 500)  # logit mean, log A
g1 <- cells(function(l, a) conversion(l, exp(-a)) + 0.5 * (plogis(l, log.p = TRUE) + plogis(-l, log.p = TRUE)) +
              a - 2 * log(ca + exp(a)), first, second)
# Basket: mu flat and integrated out, p(A) for A = tau^2/sigma^2, p(sigma) = 1/sigma.
cb <- 10 / lower_median(y)
la <- seq(-14, 6, length.out = 500); ls <- seq(-1.6, 0.9, length.out = 500)  # log A, log sigma
centre <- function(a, r) {  # precision and mean of mu
  w <- y[u] / (exp(2 * r) * (1 + y[u] * exp(a))); c(sum(w), sum(w * x[u]) / sum(w))
}
g2 <- cells(function(a, r) {
  m <- centre(a, r)
  basket(m[2], exp(a + 2 * r), exp(2 * r)) - 0.5 * log(m[1]) + a - 2 * log(cb + exp(a))
}, la, ls)

set.seed(1)
levels <- c(0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975); batches <- 40; size <- 1e5
run <- function(fixed) {
  found <- array(0, c(batches, J + 1, length(levels))); means <- matrix(0, batches, J + 1)
  for (b in 1:batches) {
    h <- draw(g1, first, second, size); M <- exp(-h[, 2]); p0 <- plogis(h[, 1])
    q <- draw(g2, la, ls, size)
    A <- exp(q[, 1]); sigma <- exp(q[, 2])
    w <- sapply(which(u), function(j) y[j] / (sigma^2 * (1 + y[j] * A)))
    mu <- rowSums(w %*% diag(x[u])) / rowSums(w) + rnorm(size) / sqrt(rowSums(w))
    for (j in 1:(J + 1)) {  # the last is a store never seen
      k <- if (j > J) c(0, 0, 0) else c(y[j], n[j], x[j])
      p <- rbeta(size, M * p0 + k[1], M * (1 - p0) + k[2] - k[1])
      own <- k[1] * A / (1 + k[1] * A)
      m <- mu + own * (k[3] - mu) + rnorm(size) * sigma * sqrt(A / (1 + k[1] * A))
      found[b, j, ] <- quantile(p * exp(m + sigma^2 / 2), levels, names = FALSE)
    }
  }
  list(value = apply(found, c(2, 3), mean), error = apply(found, c(2, 3), sd) / sqrt(batches))
}
law <- run()
rows <- function(m) paste0("[", paste(apply(m, 1, function(r) paste0("[", paste(sprintf("%.8g", r), collapse = ", "), "]")), collapse = ",\n    "), "]")
M <- exp(c1[2])
cat(sprintf('{
  "program": "%s",
  "fit": {"alpha": %.10g, "beta": %.10g, "mu": %.10g, "tau": %.10g, "sigma": %.10g,
          "log_marginal_likelihood": %.12g},
  "levels": [%s],
  "quantiles": %s,
  "standard_errors": %s
}\n', R.version.string, M * plogis(c1[1]), M * plogis(-c1[1]), c2[1], exp(c2[2]), exp(c2[3]),
  conversion(c1[1], M) + basket(c2[1], exp(2 * c2[2]), exp(2 * c2[3])),
  paste(levels, collapse = ", "), rows(law$value), rows(law$error)))
