"""What the stores are made of: one handle for every backend, and the index and the files of the embedded one."""
