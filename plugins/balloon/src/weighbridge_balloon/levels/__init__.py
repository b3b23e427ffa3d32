"""How large the balloon is, and how large the hypervisor wants it to be: a small module for each place that says so."""
