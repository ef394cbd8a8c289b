"""What a fit is made of: problems, starts, climbs, moments, and what is said of the end."""
