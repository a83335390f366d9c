"""The public entry point of the platform: routing, rate limits, merged API documentation."""
