"""What a tree of processes uses: /proc, memory groups and GPUs into samples, totals and their lines."""
