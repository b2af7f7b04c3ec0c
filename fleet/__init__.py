"""The ground that all layers stand on: values, errors, text, link, ledger, arming, notices."""
