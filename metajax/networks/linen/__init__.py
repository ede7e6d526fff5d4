"""Networks written in linen; `metajax.networks` exports them all."""
