"""The JSON for pages and other programs.

`stations`        the election, its regions, stations and pictures; finding stations
`timeline`        recordings and gaps of a station
`motion`          when something moved before the cameras, by the sizes of pictures
`oembed`          what other programs and sites are given of a station
`copies`          quotes and orders of copies, their register
`webhooks`        notifications of payment providers
`openapi`         the description of the API, which stands in openapi.yaml
"""
