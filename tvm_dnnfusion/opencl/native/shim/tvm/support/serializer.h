// See io.h: this header is missing from the wheel too.
#pragma once
