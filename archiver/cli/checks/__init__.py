"""What ``archiver check`` looks at, one module a subject; each tells results and raises nothing."""
