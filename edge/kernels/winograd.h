/* WINOGRAD: what its files share. */
#ifndef EDGE_WINOGRAD_H
#define EDGE_WINOGRAD_H

#include "methods.h"
#include "tiles.h"

enum { STEM_CHANNELS = 12 };

int winograd_pack(operation *o, const filters *f);
int stem_pack(operation *o, const filters *f);

#endif
