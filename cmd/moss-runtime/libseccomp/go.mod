// The directory's README.md says what this module is for.
module github.com/seccomp/libseccomp-golang

go 1.26

require moss.invalid/libseccomp-golang v0.12.0

replace moss.invalid/libseccomp-golang => github.com/seccomp/libseccomp-golang v0.12.0
