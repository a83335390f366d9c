"""The one public door: routing, rate limits, merged documentation."""
