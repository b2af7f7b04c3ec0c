"""L2, the patrol: one question a box and tick, its answer read, remembered, judged and reported."""
