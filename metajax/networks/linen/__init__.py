"""Networks written in linen; `metajax.networks` names them all."""
