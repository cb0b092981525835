"""What operators write, validated into one immutable Config.

`load`      kuager.yaml, the stations and the credentials -> Config, or every problem at once
`validate`  a document against a model: pydantic's findings as problems with file and line
`files`     bytes of a file -> text, or what is wrong with its encoding
`yamlfile`  text -> a document that knows the line of everything in it
`csvfile`   the same document from a table with one row per camera
`model`     Config and its parts; what a setting may be is said here
`secrets`   `${NAME}`, `*_file`, logins of cameras; addresses that never show their password
`schedule`  local windows -> UTC milliseconds: when a camera is to be recorded
`problems`  what is wrong, where, and what would be right

Text of a file is never quoted in a problem, because a line that is out of place may hold a
password; only words that Kuager knows, ids, names of files and names of variables are. The rest
of the house knows `load`, `model`, `schedule` and `problems`.
"""
