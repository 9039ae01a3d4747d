/*
 * scenario - conversations that tell chat formats apart, for comparing a
 * renderer with a checkpoint's own template.
 *
 *     for (int i = 0; i < SCENARIOS; i++) {
 *         json_t *s = scenario_json(i);   {"messages":[…],"tools":[…]?}
 *         bool ask = scenario_asks(i);    an answer is to come
 *
 * Constant tables; any thread.
 */
#ifndef FETTLE_CORE_TEXT_SCENARIO_H
#define FETTLE_CORE_TEXT_SCENARIO_H

#include "core/text.h"

#define SCENARIOS 51

/* In how many scenarios two renderers give the same (parity.c). */
int scenarios_equal(const struct render *ours, const struct render *theirs,
                    const struct tok *t);
/* The last message is not the assistant's. */
bool scenario_asks(const json_t *scenario);

#endif
