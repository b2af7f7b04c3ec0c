"""Links: the ways to a box. Light to import; `fleet.link.ssh` brings the SSH libraries."""
