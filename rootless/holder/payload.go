package holder

import "C" // for payload.c

// payloadArg is the argument at which payload.c stops a process.
const payloadArg = "--moss-holder-payload"
