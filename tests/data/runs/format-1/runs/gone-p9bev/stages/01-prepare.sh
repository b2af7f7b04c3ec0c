echo prepare >>steps
