"""Liveness, readiness and metrics of a process; readiness names each missing part."""
