"""Levels that drift from day to day: filter, hyperpriors, integration, next-day scores."""
