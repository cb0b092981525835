"""Orders of copies: from a quote to what is delivered, paid and told.

`service`    what is done with orders: the one way for pages, API, command line and worker
`worker`     the role `orders`: what happens to orders while nobody looks
`events`     what happens to an order, as pure functions from the order to a change
`quotes`     what exists of what was asked for, frozen with its price
`prices`     what a copy costs: pure functions
`allowance`  what one client may have before anything is paid
`mail`       letters to the requester: their texts, sending them, trying again
`describe`   what orders say of themselves
"""
