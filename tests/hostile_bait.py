raise SystemExit("code of a folder was run")
