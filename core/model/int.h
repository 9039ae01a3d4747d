/* int - what the files of core/model share. */
#ifndef FETTLE_CORE_MODEL_INT_H
#define FETTLE_CORE_MODEL_INT_H

#include "core/model.h"

/* The pair of an adapter on a weight, NULL = none. */
const struct lora_pair *adapter_pair(const struct adapter *a, int weight,
                                     bool is_head);

/* One layer's pages, (pages, …) as kernels.h lays them out. */
float *kv_layer(struct kv *kv, int layer);

#endif
