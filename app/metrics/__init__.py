"""Metrics: what there is (registry), how it is counted (counting), what is read from Redis at the
scrape (gauges), and the page that shows it (views)."""
