"""The HTTP parts that all resources share: authentication, fields, lists, bodies and answers."""
