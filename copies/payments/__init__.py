"""Ways to pay (docs/payments.md).

`port`     what a provider is to the rest, and the providers that are configured
`invoice`  an invoice to be paid at a bank, as a PDF
`stripe`   Stripe Checkout; only this module knows Stripe's library
"""
