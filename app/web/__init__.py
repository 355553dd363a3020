"""What the resources share of HTTP: who asks, fields, lists, bodies and answers."""
