"""`make monitoring`: writes the dashboards and rules of k8s/components/monitoring."""
