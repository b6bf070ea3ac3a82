/* SPDX-License-Identifier: Apache-2.0
 *
 * ball.h: the factor of constrain. */
#ifndef SETUN_BALL_H
#define SETUN_BALL_H

/* What values of a norm outside the radius are multiplied by: short of radius/norm by more than rounding can add. */
static inline double setun_ball_factor(double radius, double norm) { return radius / norm * (1 - 0x1p-23); }

#endif
