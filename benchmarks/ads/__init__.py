"""The survival head against known hazards: a simulated world of 60,000 creatives."""
