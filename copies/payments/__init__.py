"""Ways to pay (docs/payments.md).

`port`       what a provider is to the rest, and the providers that are configured
`invoice`    an invoice to be paid at a bank, and a receipt, as PDFs
`statement`  what came and went back, as a list for people
`paper`      rows, texts and a QR on a PDF; only this module knows fpdf2
`stripe`     Stripe Checkout; only this module knows Stripe's library
"""
