"""What operators write, validated into one immutable Config."""
