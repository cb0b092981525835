"""The pages for people; each works without scripts.

`render`           templates in three languages, links, the page that says what is wrong
`home`             the home page: search, regions, featured cameras
`cards`            lists of stations
`about`            who runs the site and what it keeps; help
`station`          a station with all its angles, and the player that other sites embed
`moment`           the moment that a link names, or why it cannot be shown and what to do
`player_messages`  what the scripts of the station page say
`copies`           what copies are, asking for a quote, the register
`quote_form`       the form that asks for a quote, and what was written into it
`order`            the page of one order
`order_actions`    what people do with an order on its page; its invoice and receipt
"""
