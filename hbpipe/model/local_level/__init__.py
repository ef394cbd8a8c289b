"""Levels that drift from day to day: the Kalman filter, hyperpriors, integration, next-day scores."""
