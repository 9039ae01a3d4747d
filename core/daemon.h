/*
 * daemon - `fettle serve`: the one process that writes the store. It journals
 * ops before it acknowledges them, supervises workers and jobs, and speaks
 * HTTP on a Unix socket (HOME/run/d.sock, mode 0600, same user only) and, when
 * asked, on a TCP port with a token. It knows no tokenizer and no mathematics.
 *
 * Routes (JSON unless said otherwise; an error is {"error":{code,message}}):
 *   GET    /healthz
 *   GET    /fettle/v1/status                 pid, socket, tcp, workers, jobs
 *   POST   /fettle/v1/stop
 *   GET    /fettle/v1/models[?name=N]        registered base models
 *   POST   /fettle/v1/models                 {name,dir,family,params}
 *   POST   /fettle/v1/runs                   {recipe,name?,model,config} →
 * {run} GET    /fettle/v1/runs/N                 config, state, cursor,
 * model_dir POST   /fettle/v1/runs/N/{pause,resume,kill} POST
 * /fettle/v1/runs/N/points          {cursor,run_us,planned?,points:
 *          [{name,step,value}],samples:[…],events:[…]} → {state}
 *   POST   /fettle/v1/runs/N/finish          {state,error?}
 *   POST   /fettle/v1/create?run=N           op bytes → {model}
 *   POST   /fettle/v1/ops                    op bytes → {model,seq}
 *   GET    /fettle/v1/ops/MODEL/SEQ?wait_ms= 200 result bytes, 202 not yet
 *   POST   /fettle/v1/run?target=T           op bytes → frames, streamed
 *   POST   /fettle/v1/promote                {ckpt,name}
 *   POST   /fettle/v1/deployments            {name,ckpt}; answers when it
 * serves DELETE /fettle/v1/deployments            {name} DELETE
 * /fettle/v1/checkpoints            {id} POST   /fettle/v1/alerts/read GET
 * /v1/models, POST /v1/completions, /v1/chat/completions (OpenAI)
 */
#ifndef FETTLE_CORE_DAEMON_H
#define FETTLE_CORE_DAEMON_H

#include "core/err.h"

struct daemon_opts {
    const char *home;   /* absolute, from fs_home() */
    const char *tcp;    /* "HOST:PORT" or NULL */
    const char *token;  /* needed with tcp */
    const char *device; /* "cpu" */
    const char *exe;    /* the fettle binary, for workers and jobs */
    int threads;        /* of a worker, 0 = all cores */
    bool foreground;    /* log to stderr too */
    bool detach;        /* lets go of stdin, stdout, stderr once it listens */
};

/* Serves until POST stop or SIGTERM; BUSY when another daemon has the home.
 * The caller must be single-threaded. */
int daemon_serve(const struct daemon_opts *o, struct err *err);

#endif
