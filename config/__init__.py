"""What operators write, validated into one immutable Config.

`load`      kuager.yaml, the stations and the credentials -> Config, or every problem at once
`validate`  a document against a model: pydantic's findings as problems with file and line
`written`   kuager.yaml and the stations file as they are written
`files`     bytes of a file -> text, or what is wrong with its encoding
`yamlfile`  text -> a document that knows the line of everything in it
`csvfile`   the same document from a table with one row per camera
`model`     Config and its parts; what a setting may be is said here
`copies`    the section of copies; `money`, amounts as integers of a currency's smallest unit;
            `mailaddress`, what a letter can be sent to
`base`      what every part is made of
`secrets`   `${NAME}`, and addresses that never show their password
`credentials`   `*_file` keys and the logins of cameras
`schedule`  local windows -> UTC milliseconds: when a camera is to be recorded
`roles`     the processes that a configuration asks for
`problems`  what is wrong, where, and what would be right

A problem never quotes what a file says, because whatever is out of place may be a password; it
has the line, and only words that Kuager knows, valid ids and names of variables. The rest of the
house knows `load`, `model`, `schedule`, `roles` and `problems`.
"""
