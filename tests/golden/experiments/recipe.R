# R 4.2.2, metafor 3.8.1: writes the data files and prints the numbers of truth.json.
library(metafor)
show <- function(name, values) cat(sprintf('"%s": [%s]', name, paste(sprintf("%.12g", values), collapse = ", ")), "\n")
answers <- function(set) {
  show("yi", set$yi)
  show("vi", set$vi)
  for (method in c("ML", "REML")) {
    fit <- rma(yi, vi, data = set, method = method,
               control = list(threshold = 1e-11, maxiter = 10000, stepadj = 0.5))
    show(paste(method, "mu se tau2 ll"), c(fit$b[1], fit$se, fit$tau2, fit$fit.stats[1, method]))
  }
}
rates <- dat.bcg[, c("tpos", "tneg", "cpos", "cneg")]
answers(escalc(measure = "RD", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = rates))
write.csv(rates, "bcg.csv", row.names = FALSE, quote = FALSE)
means <- dat.normand1999[, c("n1i", "m1i", "sd1i", "n2i", "m2i", "sd2i")]
answers(escalc(measure = "MD", m1i = m1i, sd1i = sd1i, n1i = n1i,
               m2i = m2i, sd2i = sd2i, n2i = n2i, data = means))
write.csv(means, "stay.csv", row.names = FALSE, quote = FALSE)
