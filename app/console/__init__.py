"""The web console: pages for operators, and the API that these pages use."""
