echo eval >>steps
