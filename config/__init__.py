"""What operators write, validated into one immutable Config.

`load`         kuager.yaml, the stations and the credentials -> Config, or every problem at once
`file_models`  kuager.yaml and the stations file as they are written
`csvfile`      a table with one row per camera -> the document that `yamlfile` makes of YAML
`credentials`  `*_file` keys and the logins of cameras
`validate`     a document against a model: pydantic's findings as problems with file and line
`yamlfile`     text -> a document that knows the line of everything in it
`schedule`     local windows -> UTC milliseconds: when a camera is to be recorded
`roles`        the processes that a configuration asks for
`model`        Config and its parts: what settings there are
`values`       what a value may be: a day, a zone, a path
`copies`       the section of copies: prices, banks, the mail server
`limits`       what the spool's disk is watched for: thresholds, reserve, mount
`money`        amounts and currencies as an operator writes them
`mailaddress`  the addresses that letters can be sent to
`base`         what every part is made of
`secrets`      `${NAME}`, and addresses that never show their password
`files`        bytes of a file -> text, or what is wrong with its encoding
`problems`     what is wrong, where, and what would be right

A problem never quotes what a file says, because whatever is out of place may be a password; it
has the line, and only words that Kuager knows, valid ids and names of variables.
"""
