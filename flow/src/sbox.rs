//! The AES S-box as a circuit of bit operations: the gate list of Boyar and Peralta ("A new
//! combinational logic minimization technique with applications to cryptology", 2010), in the names
//! of their paper. Used by [`crate::aes`] on 64 bytes at once.

/// SubBytes on bit planes, without the inversion of bits 0, 1, 5 and 6: that stands in the round keys.
#[inline(always)]
pub(crate) fn sub_bytes(q: &mut [u64; 8]) {
    let y = top(*q);
    *q = bottom(products(&y, inverse(&y)));
}

/// The linear layer before the inversion in GF(2^8): x7 at place 0, y1 to y21 at theirs.
#[inline(always)]
fn top([x7, x6, x5, x4, x3, x2, x1, x0]: [u64; 8]) -> [u64; 22] {
    let y14 = x3 ^ x5;
    let y13 = x0 ^ x6;
    let y9 = x0 ^ x3;
    let y8 = x0 ^ x5;
    let t0 = x1 ^ x2;
    let y1 = t0 ^ x7;
    let y4 = y1 ^ x3;
    let y12 = y13 ^ y14;
    let y2 = y1 ^ x0;
    let y5 = y1 ^ x6;
    let y3 = y5 ^ y8;
    let t1 = x4 ^ y12;
    let y15 = t1 ^ x5;
    let y20 = t1 ^ x1;
    let y6 = y15 ^ x7;
    let y10 = y15 ^ t0;
    let y11 = y20 ^ y9;
    let y7 = x7 ^ y11;
    let y17 = y10 ^ y11;
    let y19 = y10 ^ y8;
    let y16 = t0 ^ y11;
    let y21 = y13 ^ y16;
    let y18 = x0 ^ y16;
    [
        x7, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15, y16, y17, y18, y19,
        y20, y21,
    ]
}

/// The inversion of what `top` gave: t44, t37, t33, t43, t40, t29, t42, t45 and t41.
#[inline(always)]
fn inverse(y: &[u64; 22]) -> [u64; 9] {
    let t2 = y[12] & y[15];
    let t4 = (y[3] & y[6]) ^ t2;
    let t6 = (y[4] & y[0]) ^ t2;
    let t7 = y[13] & y[16];
    let t9 = (y[5] & y[1]) ^ t7;
    let t11 = (y[2] & y[7]) ^ t7;
    let t12 = y[9] & y[11];
    let t14 = (y[14] & y[17]) ^ t12;
    let t16 = (y[8] & y[10]) ^ t12;
    let t21 = t4 ^ t14 ^ y[20];
    let t22 = t6 ^ t16 ^ y[19];
    let t23 = t9 ^ t14 ^ y[21];
    let t24 = t11 ^ t16 ^ y[18];
    let t25 = t21 ^ t22;
    let t26 = t21 & t23;
    let t27 = t24 ^ t26;
    let t29 = (t25 & t27) ^ t22;
    let t30 = t23 ^ t24;
    let t31 = t22 ^ t26;
    let t33 = (t31 & t30) ^ t24;
    let t34 = t23 ^ t33;
    let t35 = t27 ^ t33;
    let t36 = t24 & t35;
    let t37 = t36 ^ t34;
    let t38 = t27 ^ t36;
    let t40 = t25 ^ (t29 & t38);
    let t41 = t40 ^ t37;
    let t42 = t29 ^ t33;
    let t43 = t29 ^ t40;
    let t44 = t33 ^ t37;
    let t45 = t42 ^ t41;
    [t44, t37, t33, t43, t40, t29, t42, t45, t41]
}

/// The products of the inverse with what `top` gave: z0 to z17.
#[inline(always)]
fn products(y: &[u64; 22], [t44, t37, t33, t43, t40, t29, t42, t45, t41]: [u64; 9]) -> [u64; 18] {
    let z0 = t44 & y[15];
    let z1 = t37 & y[6];
    let z2 = t33 & y[0];
    let z3 = t43 & y[16];
    let z4 = t40 & y[1];
    let z5 = t29 & y[7];
    let z6 = t42 & y[11];
    let z7 = t45 & y[17];
    let z8 = t41 & y[10];
    let z9 = t44 & y[12];
    let z10 = t37 & y[3];
    let z11 = t33 & y[4];
    let z12 = t43 & y[13];
    let z13 = t40 & y[5];
    let z14 = t29 & y[2];
    let z15 = t42 & y[9];
    let z16 = t45 & y[14];
    let z17 = t41 & y[8];
    [
        z0, z1, z2, z3, z4, z5, z6, z7, z8, z9, z10, z11, z12, z13, z14, z15, z16, z17,
    ]
}

/// The linear layer after the inversion.
#[inline(always)]
fn bottom(
    [
        z0,
        z1,
        z2,
        z3,
        z4,
        z5,
        z6,
        z7,
        z8,
        z9,
        z10,
        z11,
        z12,
        z13,
        z14,
        z15,
        z16,
        z17,
    ]: [u64; 18],
) -> [u64; 8] {
    let t46 = z15 ^ z16;
    let t47 = z10 ^ z11;
    let t48 = z5 ^ z13;
    let t49 = z9 ^ z10;
    let t50 = z2 ^ z12;
    let t51 = z2 ^ z5;
    let t52 = z7 ^ z8;
    let t53 = z0 ^ z3;
    let t54 = z6 ^ z7;
    let t55 = z16 ^ z17;
    let t56 = z12 ^ t48;
    let t57 = t50 ^ t53;
    let t58 = z4 ^ t46;
    let t59 = z3 ^ t54;
    let t60 = t46 ^ t57;
    let t61 = z14 ^ t57;
    let t62 = t52 ^ t58;
    let t63 = t49 ^ t58;
    let t64 = z4 ^ t59;
    let t65 = t61 ^ t62;
    let t66 = z1 ^ t63;
    let s0 = t59 ^ t63;
    let s3 = t53 ^ t66;
    [
        t48 ^ t60,
        t56 ^ t62,
        t47 ^ t65,
        t51 ^ t66,
        s3,
        t55 ^ t64 ^ t65,
        t64 ^ s3,
        s0,
    ]
}
