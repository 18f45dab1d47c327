"""Health Monitoring: probes, KPIs and the metric registry."""
